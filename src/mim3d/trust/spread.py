"""How far off a forecast may be, from how much its members disagree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mim3d.errors import UserError

LOGARITHMIC = ("density", "pressure", "temperature")
"""Channels whose errors and spreads are those of log10 [dex]; of others they are in the channel's unit."""

INTERVAL = 0.9
_HALF_WIDTH = 1.6449
"""Standard deviations on either side of the mean that hold 90 % of a normal distribution."""

_LOWEST, _HIGHEST, _WIDTH = -6.0, 4.0, 0.25
_BINS = round((_HIGHEST - _LOWEST) / _WIDTH)
_FEWEST = 50

_REGION_EDGES = (0.1, 0.9)
_REGIONS = len(_REGION_EDGES) + 1


def spread_values(channel: str, values: np.ndarray) -> np.ndarray:
    """Return the values whose mean and spread over members are taken: log10 of `LOGARITHMIC` channels."""
    if channel not in LOGARITHMIC:
        return np.asarray(values, dtype=np.float64)
    return np.log10(np.maximum(np.asarray(values, dtype=np.float64), 1e-30))


def regions(affected: np.ndarray) -> np.ndarray:
    """Tell far gas (0), the edge of the affected gas (1) and its inside (2) apart by how sure it is affected.

    Where members agree they may all be wrong, and by how much differs between these.
    """
    return np.digitize(affected, _REGION_EDGES)


def _bin(values: np.ndarray, bins: int = _BINS) -> np.ndarray:
    logarithm = np.log10(np.maximum(values, 10**_LOWEST))
    return np.clip((logarithm - _LOWEST) / (_HIGHEST - _LOWEST) * bins, 0, bins - 1).astype(np.int64)


class SpreadFit:
    """Counts, over validation clouds, how large errors are where members disagree by so much.

    Parameters
    ----------
    num_frames
        Lead times.
    """

    _ERROR_BINS = 4 * _BINS

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self._counts: dict[str, np.ndarray] = {}

    def accumulate(self, channel: str, spread: np.ndarray, error: np.ndarray, region: np.ndarray) -> None:
        """Add one run: spread over members and error of the mean, `(T, *space)`; NaN is left out.

        `region`, of the same shape, is that of `regions`; 0 everywhere of what knows no affected gas.
        """
        shape = (_REGIONS, self.num_frames, _BINS, self._ERROR_BINS)
        counts = self._counts.setdefault(channel, np.zeros(shape, dtype=np.int64))
        for lead, (own, off, place) in enumerate(zip(spread, np.abs(error), region, strict=True)):
            known = np.isfinite(own) & np.isfinite(off)
            cell = (place[known] * _BINS + _bin(own[known])) * self._ERROR_BINS
            cell += _bin(off[known], self._ERROR_BINS)
            found = np.bincount(cell, minlength=_REGIONS * _BINS * self._ERROR_BINS)
            counts[:, lead] += found.reshape(_REGIONS, _BINS, self._ERROR_BINS)

    def compute(self) -> SpreadScale:
        """Return what turns the members' spread into a standard deviation of the error.

        In every region and bin of the spread, and at every lead time, that is the half-width that holds 90 %
        of the errors, over that of a normal distribution. A region with too few voxels takes that of all.
        """
        log_edges = np.linspace(_LOWEST, _HIGHEST, self._ERROR_BINS + 1)
        centres = _LOWEST + _WIDTH * (np.arange(_BINS) + 0.5)
        deviations: dict[str, np.ndarray] = {}
        for channel, counts in self._counts.items():
            everywhere = counts.sum(axis=0)
            table = np.empty(counts.shape[:3])
            for region, lead in np.ndindex(table.shape[:2]):
                own = counts[region, lead]
                if own.sum() < _FEWEST:
                    own = everywhere[lead]
                total = own.sum(axis=1)
                filled = total >= min(_FEWEST, total.max())
                share = own.cumsum(axis=1) / np.maximum(total, 1)[:, None]
                share = np.pad(share, ((0, 0), (1, 0)))
                half = [float(np.interp(INTERVAL, row, log_edges)) for row in share[filled]]
                table[region, lead] = np.interp(
                    centres, centres[filled], np.array(half) - np.log10(_HALF_WIDTH)
                )
            deviations[channel] = table
        return SpreadScale(deviations)


@dataclass(frozen=True)
class SpreadScale:
    """From the members' spread to the standard deviation of the error.

    Parameters
    ----------
    log_deviation
        By channel, log10 of the deviation `(regions, T, bins)`, for bins of log10 of the spread.
    """

    log_deviation: Mapping[str, np.ndarray]

    def apply(self, channel: str, spread: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Return the deviation `(T, *space)` for a spread and regions `(T, *space)`.

        Unknown channels keep their spread. Lead times beyond those of the calibration take its last.
        """
        table = self.log_deviation.get(channel)
        if table is None:
            return spread
        centres = _LOWEST + _WIDTH * (np.arange(_BINS) + 0.5)
        logarithm = np.log10(np.maximum(spread, 10**_LOWEST))
        deviation = np.empty(spread.shape)
        for lead, (frame, place) in enumerate(zip(logarithm, region, strict=True)):
            for number, rows in enumerate(table):
                here = place == number
                deviation[lead][here] = np.interp(frame[here], centres, rows[min(lead, len(rows) - 1)])
        return 10**deviation

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, for JSON."""
        return {name: np.round(table, 3).tolist() for name, table in self.log_deviation.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`.

        Raises
        ------
        UserError
            If a table is unusable.
        """
        try:
            tables = {name: np.array(table, dtype=np.float64) for name, table in values.items()}
        except (TypeError, ValueError) as error:
            raise UserError(f"the model's calibration of its spread is damaged: {error}") from error
        for name, table in tables.items():
            if table.ndim != 3 or table.shape[::2] != (_REGIONS, _BINS) or not np.isfinite(table).all():
                raise UserError(
                    f"the model's calibration of the spread of {name} is damaged or of an older release: "
                    "mim3d calibrate makes a new one"
                )
        return cls(tables)
