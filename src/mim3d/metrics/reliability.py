"""Whether intervals hold as much as they say."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from scipy.special import ndtri

from mim3d.metrics.streaming import check_mergeable, check_sample

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Shares that intervals are meant to hold: 5 % to 95 %."""


class Coverage(NamedTuple):
    """What intervals hold; NaN where nothing is known."""

    levels: np.ndarray
    """What they are meant to hold `(L,)`."""
    shares: np.ndarray
    """What they hold `(L, num_frames)`."""

    def at(self, level: float) -> np.ndarray:
        """Return the shares `(num_frames,)` at one of the levels."""
        return self.shares[int(np.abs(self.levels - level).argmin())]


class Reliability:
    """Counts how often the truth lies within central intervals of a normal distribution.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self._counts = np.zeros((num_frames, len(LEVELS) + 1), dtype=np.int64)

    @classmethod
    def start(cls, num_frames: int) -> Self:
        """Return a score that has seen no sample."""
        return cls(num_frames)

    def accumulate(self, error: np.ndarray, deviation: np.ndarray) -> None:
        """Add one sample.

        Parameters
        ----------
        error
            Forecast minus truth `(T, *space)`; NaN is left out.
        deviation
            Standard deviation that the forecast gives it `(T, *space)`.
        """
        error, deviation = check_sample(error, deviation, self.num_frames)
        edges = ndtri(0.5 + 0.5 * np.array(LEVELS))
        for lead, (off, width) in enumerate(zip(np.abs(error), deviation, strict=True)):
            known = np.isfinite(off) & np.isfinite(width)
            place = np.searchsorted(edges, off[known] / np.maximum(width[known], 1e-30))
            self._counts[lead] += np.bincount(place, minlength=len(LEVELS) + 1)

    def merge(self, other: Self) -> Self:
        """Return the score of the samples of both."""
        check_mergeable(self, other)
        merged = type(self).start(self.num_frames)
        merged._counts = self._counts + other._counts
        return merged

    def compute(self) -> Coverage:
        """Return what the intervals hold, at every lead time."""
        return self._cover(self._counts)

    def overall(self) -> Coverage:
        """Return what they hold over all lead times; its shares are `(L, 1)`."""
        return self._cover(self._counts.sum(axis=0, keepdims=True))

    @staticmethod
    def _cover(counts: np.ndarray) -> Coverage:
        total = counts.sum(axis=1)
        held = counts.cumsum(axis=1)[:, :-1].T
        return Coverage(np.array(LEVELS), np.where(total > 0, held / np.maximum(total, 1), np.nan))
