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


def spread_values(channel: str, values: np.ndarray) -> np.ndarray:
    """Return the values whose mean and spread over members are taken: log10 of `LOGARITHMIC` channels."""
    if channel not in LOGARITHMIC:
        return np.asarray(values, dtype=np.float64)
    return np.log10(np.maximum(np.asarray(values, dtype=np.float64), 1e-30))


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

    def accumulate(self, channel: str, spread: np.ndarray, error: np.ndarray) -> None:
        """Add one run: spread over members and error of the mean, `(T, *space)`; NaN is left out."""
        shape = (self.num_frames, _BINS, self._ERROR_BINS)
        counts = self._counts.setdefault(channel, np.zeros(shape, dtype=np.int64))
        for lead, (own, off) in enumerate(zip(spread, np.abs(error), strict=True)):
            known = np.isfinite(own) & np.isfinite(off)
            cell = _bin(own[known]) * self._ERROR_BINS + _bin(off[known], self._ERROR_BINS)
            counts[lead] += np.bincount(cell, minlength=shape[1] * shape[2]).reshape(shape[1:])

    def compute(self) -> SpreadScale:
        """Return what turns the members' spread into a standard deviation of the error.

        In every bin of the spread, and at every lead time, that is the half-width that holds 90 % of the
        errors, over that of a normal distribution.
        """
        log_edges = np.linspace(_LOWEST, _HIGHEST, self._ERROR_BINS + 1)
        centres = _LOWEST + _WIDTH * (np.arange(_BINS) + 0.5)
        deviations: dict[str, np.ndarray] = {}
        for channel, counts in self._counts.items():
            total = counts.sum(axis=2)
            table = np.empty(total.shape)
            for lead in range(self.num_frames):
                filled = total[lead] >= min(_FEWEST, total[lead].max())
                share = counts[lead].cumsum(axis=1) / np.maximum(total[lead], 1)[:, None]
                share = np.pad(share, ((0, 0), (1, 0)))
                half = [float(np.interp(INTERVAL, row, log_edges)) for row in share[filled]]
                table[lead] = np.interp(centres, centres[filled], np.array(half) - np.log10(_HALF_WIDTH))
            deviations[channel] = table
        return SpreadScale(deviations)


@dataclass(frozen=True)
class SpreadScale:
    """From the members' spread to the standard deviation of the error.

    Parameters
    ----------
    log_deviation
        By channel, log10 of the deviation `(T, bins)`, for bins of log10 of the spread.
    """

    log_deviation: Mapping[str, np.ndarray]

    def apply(self, channel: str, spread: np.ndarray) -> np.ndarray:
        """Return the deviation `(T, *space)` for a spread `(T, *space)`; as it is for unknown channels.

        Lead times beyond those of the calibration take its last.
        """
        table = self.log_deviation.get(channel)
        if table is None:
            return spread
        centres = _LOWEST + _WIDTH * (np.arange(_BINS) + 0.5)
        logarithm = np.log10(np.maximum(spread, 10**_LOWEST))
        rows = [table[min(lead, len(table) - 1)] for lead in range(len(spread))]
        return 10 ** np.stack(
            [np.interp(frame, centres, row) for frame, row in zip(logarithm, rows, strict=True)]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, for JSON."""
        return {
            name: [[round(float(value), 4) for value in row] for row in table]
            for name, table in self.log_deviation.items()
        }

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
            if table.ndim != 2 or table.shape[1] != _BINS or not np.isfinite(table).all():
                raise UserError(f"the model's calibration of the spread of {name} is damaged")
        return cls(tables)
