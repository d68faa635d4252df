"""What finding nearly all of the affected gas costs."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from mim3d.metrics.streaming import check_mergeable, check_sample

BINS = 200
"""Thresholds that are tried: 0 to 1 in steps of 1 / BINS."""


class Operating(NamedTuple):
    """Where to put a threshold, one number per lead time; NaN where no threshold does."""

    threshold: np.ndarray
    """Highest value above which gas must count as affected for the recall that is wanted."""
    precision: np.ndarray
    """Share of the gas above it that is truly affected."""


class RecallCurve:
    """Counts how certain a forecast was of gas that is affected, and of gas that is not.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self._counts = np.zeros((2, num_frames, BINS), dtype=np.int64)

    @classmethod
    def start(cls, num_frames: int) -> Self:
        """Return a curve that has seen no sample."""
        return cls(num_frames)

    def accumulate(self, certainty: np.ndarray, truth: np.ndarray) -> None:
        """Add one sample.

        Parameters
        ----------
        certainty
            `(T, *space)`, 0 to 1.
        truth
            `(T, *space)`: 1 where affected, 0 elsewhere, NaN where not known.
        """
        certainty, truth = check_sample(certainty, truth, self.num_frames)
        known = ~(np.isnan(certainty) | np.isnan(truth))
        bins = np.minimum(np.nan_to_num(certainty) * BINS, BINS - 1).astype(np.int64)
        for is_affected in (0, 1):
            counted = known & ((truth > 0.5) == bool(is_affected))
            for lead in range(len(certainty)):
                self._counts[is_affected, lead] += np.bincount(bins[lead][counted[lead]], minlength=BINS)

    def merge(self, other: Self) -> Self:
        """Return the curve of the samples of both."""
        check_mergeable(self, other)
        merged = type(self).start(self.num_frames)
        merged._counts = self._counts + other._counts
        return merged

    def at_recall(self, recall: float = 0.99) -> Operating:
        """Return the highest thresholds that reach a recall, and their precision, each `(num_frames,)`."""
        return self._operate(self._counts, recall)

    def overall_at_recall(self, recall: float = 0.99) -> Operating:
        """Return the same for one threshold at all lead times, each `(1,)`."""
        return self._operate(self._counts.sum(axis=1, keepdims=True), recall)

    def best_overlap(self, slack: float = 0.0) -> float:
        """Return the threshold, one for all lead times, whose gas overlaps best (IoU) with the affected.

        NaN where no gas is affected.

        Parameters
        ----------
        slack
            Of the thresholds whose IoU is within this of the best, the lowest is taken: it misses least.
        """
        wrong, right = self._counts.sum(axis=1)[:, ::-1].cumsum(axis=-1)[:, ::-1]
        total = right[0]
        if not total:
            return float("nan")
        overlap = right / (total + wrong)
        return float(np.argmax(overlap >= overlap.max() - slack) / BINS)

    @staticmethod
    def _operate(counts: np.ndarray, recall: float) -> Operating:
        # Entry k: what lies in bin k and above it.
        above = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
        wrong, right = above
        total = right[:, 0]
        reached = right >= recall * total[:, None]
        place = reached.sum(axis=1) - 1
        rows = np.arange(len(total))
        # The lowest bin names all gas: no threshold at all.
        is_found = (total > 0) & (place > 0)
        named = right[rows, place] + wrong[rows, place]
        precision = right[rows, place] / np.maximum(named, 1)
        return Operating(np.where(is_found, place / BINS, np.nan), np.where(is_found, precision, np.nan))
