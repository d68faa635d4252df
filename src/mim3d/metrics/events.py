"""How well events, values at or above a threshold, are forecast: CSI, POD, FAR and HSS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from mim3d.errors import UserError
from mim3d.metrics.streaming import FORECASTS, check_sample, persistence_of

RADAR_THRESHOLDS = (30.0, 40.0, 50.0)
"""Of radar reflectivity [dBZ], as in MIM (arXiv 1811.07490)."""

EVENT_SCORES = ("csi", "pod", "far", "hss")
"""Names of the scores of events."""


class EventRates(NamedTuple):
    """Scores of events; NaN where there is nothing to divide by, such as no event."""

    csi: np.ndarray
    """Critical success index, hits / (hits + misses + false alarms)."""
    pod: np.ndarray
    """Probability of detection, hits / (hits + misses)."""
    far: np.ndarray
    """False alarm ratio, false alarms / (hits + false alarms); 0 is best."""
    hss: np.ndarray
    """Heidke skill score: share of right pixels, against that of chance; 1 is best, 0 no skill."""


class ContingencyTable:
    """Hits, misses, false alarms and correct negatives of forecast events, pooled over samples.

    Pixels of all samples are counted together. Those that are NaN in the forecast or in the truth are not
    counted.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    thresholds
        Values from which on (at or above) a pixel is an event.

    Raises
    ------
    UserError
        If there is no lead time, or the thresholds are not ascending numbers.

    References
    ----------
    Wilks 2011, Statistical methods in the atmospheric sciences, 3rd edition, chapter 8.2.
    """

    def __init__(self, num_frames: int, thresholds: Sequence[float] = RADAR_THRESHOLDS) -> None:
        if num_frames < 1:
            raise UserError(f"num_frames must be at least 1, got {num_frames}")
        values = np.asarray(thresholds, dtype=np.float64)
        # Written so that NaN fails too.
        if (
            values.ndim != 1
            or not len(values)
            or not (np.isfinite(values).all() and (np.diff(values) > 0).all())
        ):
            raise UserError(f"thresholds must be one or more ascending numbers, found {tuple(thresholds)}")
        self.num_frames = num_frames
        self.thresholds = tuple(map(float, values))
        shape = (len(values), num_frames)
        self.hits = np.zeros(shape, dtype=np.int64)
        self.misses = np.zeros(shape, dtype=np.int64)
        self.false_alarms = np.zeros(shape, dtype=np.int64)
        self.correct_negatives = np.zeros(shape, dtype=np.int64)

    @classmethod
    def start(cls, num_frames: int, thresholds: Sequence[float] = RADAR_THRESHOLDS) -> Self:
        """Return a table that has seen no sample."""
        return cls(num_frames, thresholds)

    def accumulate(self, forecast: np.ndarray, truth: np.ndarray) -> None:
        """Add one sample.

        Parameters
        ----------
        forecast, truth
            `(T, *space)` (or any other trailing axes) in the unit of the thresholds, T at most `num_frames`.

        Raises
        ------
        UserError
            If the shapes differ or there are more frames than lead times.
        """
        forecast, truth = check_sample(forecast, truth, self.num_frames)
        axes = tuple(range(1, forecast.ndim))
        known = ~(np.isnan(forecast) | np.isnan(truth))
        leads = slice(0, len(forecast))
        for row, threshold in enumerate(self.thresholds):
            named, true = known & (forecast >= threshold), known & (truth >= threshold)
            hits = (named & true).sum(axis=axes)
            misses, false_alarms = true.sum(axis=axes) - hits, named.sum(axis=axes) - hits
            self.hits[row, leads] += hits
            self.misses[row, leads] += misses
            self.false_alarms[row, leads] += false_alarms
            self.correct_negatives[row, leads] += known.sum(axis=axes) - hits - misses - false_alarms

    def merge(self, other: Self) -> Self:
        """Return the table of the samples of both."""
        if (self.num_frames, self.thresholds) != (other.num_frames, other.thresholds):
            raise UserError("cannot merge tables of different lead times or thresholds")
        merged = type(self).start(self.num_frames, self.thresholds)
        for name in ("hits", "misses", "false_alarms", "correct_negatives"):
            setattr(merged, name, getattr(self, name) + getattr(other, name))
        return merged

    def compute(self) -> EventRates:
        """Return the scores per lead time, each `(thresholds, num_frames)`."""
        return _rates(self.hits, self.misses, self.false_alarms, self.correct_negatives)

    def pooled(self) -> EventRates:
        """Return the scores of the pixels of all lead times together, each `(thresholds,)`."""
        counts = (self.hits, self.misses, self.false_alarms, self.correct_negatives)
        return _rates(*(count.sum(axis=1) for count in counts))


class EventScores:
    """Scores of forecast events, per lead time and over all of them, beside persistence (nothing changes).

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    thresholds
        Values from which on (at or above) a pixel is an event.
    """

    def __init__(self, num_frames: int, thresholds: Sequence[float] = RADAR_THRESHOLDS) -> None:
        self.num_samples = 0
        self._tables = {who: ContingencyTable.start(num_frames, thresholds) for who in FORECASTS}
        self.num_frames = num_frames
        self.thresholds = self._tables["forecast"].thresholds

    @classmethod
    def start(cls, num_frames: int, thresholds: Sequence[float] = RADAR_THRESHOLDS) -> Self:
        """Return scores that have seen no sample."""
        return cls(num_frames, thresholds)

    def accumulate(
        self,
        forecast: np.ndarray,
        truth: np.ndarray,
        last_input: np.ndarray,
        missing: np.ndarray | None = None,
    ) -> None:
        """Add one sequence, in the unit of the thresholds.

        Parameters
        ----------
        forecast, truth
            `(T, C, *space)`, T at most `num_frames`.
        last_input
            `(C, *space)`: the last frame that was given, which persistence keeps. Where it is NaN,
            persistence is not scored.
        missing
            `(T, C, *space)`, True where the truth is not known; NaN in the truth says the same.

        Raises
        ------
        UserError
            If the shapes do not fit together.
        """
        kept, truth = persistence_of(truth, last_input, missing)
        self._tables["forecast"].accumulate(forecast, truth)
        self._tables["persistence"].accumulate(kept, truth)
        self.num_samples += 1

    def merge(self, other: Self) -> Self:
        """Return the scores of the samples of both."""
        merged = type(self).start(self.num_frames, self.thresholds)
        merged.num_samples = self.num_samples + other.num_samples
        merged._tables = {who: table.merge(other._tables[who]) for who, table in self._tables.items()}
        return merged

    def compute(self) -> dict[str, np.ndarray]:
        """Return every score per lead time by name, each `(num_frames,)`.

        Names are those of `EVENT_SCORES` and the threshold, such as `csi_30`, also with `persistence_` in
        front.
        """
        return self._named({who: table.compute() for who, table in self._tables.items()})

    def pooled(self) -> dict[str, float]:
        """Return every score of the pixels of all lead times together, by the names of `compute`."""
        named = self._named({who: table.pooled() for who, table in self._tables.items()})
        return {name: float(value) for name, value in named.items()}

    def _named(self, rates: dict[str, EventRates]) -> dict[str, np.ndarray]:
        return {
            f"{prefix}{name}_{threshold:g}": values[row]
            for who, prefix in FORECASTS.items()
            for name, values in rates[who]._asdict().items()
            for row, threshold in enumerate(self.thresholds)
        }


def _rates(
    hits: np.ndarray, misses: np.ndarray, false_alarms: np.ndarray, negatives: np.ndarray
) -> EventRates:
    # Products of counts do not fit 64-bit integers.
    h, m, f, n = (count.astype(np.float64) for count in (hits, misses, false_alarms, negatives))
    return EventRates(
        csi=_ratio(h, h + m + f),
        pod=_ratio(h, h + m),
        far=_ratio(f, h + f),
        hss=_ratio(2 * (h * n - m * f), (h + m) * (m + n) + (h + f) * (f + n)),
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
