"""How well the gas that the explosion affects is found."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from mim3d.errors import UserError
from mim3d.metrics.streaming import check_mergeable, check_sample


class Overlap(NamedTuple):
    """Agreement of two sets of voxels, one number per lead time; NaN where a set is empty."""

    iou: np.ndarray
    """Intersection over union."""
    recall: np.ndarray
    """Share of the truly affected voxels that the forecast names."""
    precision: np.ndarray
    """Share of the voxels named by the forecast that are truly affected."""
    missed_mass: np.ndarray
    """Share of the mass in the truly affected voxels that the forecast does not name."""


class AffectedOverlap:
    """Intersection over union, recall and precision of affected gas, pooled over samples.

    Voxels of all samples are counted together, so that a cloud in which little is affected yet, and one voxel
    is a large share, does not dominate. NaN in the truth marks voxels that are not known and not counted.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    """

    def __init__(self, num_frames: int) -> None:
        if num_frames < 1:
            raise UserError(f"num_frames must be at least 1, got {num_frames}")
        self.num_frames = num_frames
        self._both = np.zeros(num_frames, dtype=np.int64)
        self._only_forecast = np.zeros(num_frames, dtype=np.int64)
        self._only_truth = np.zeros(num_frames, dtype=np.int64)
        self._missed_mass = np.zeros(num_frames)
        self._affected_mass = np.zeros(num_frames)

    @classmethod
    def start(cls, num_frames: int) -> Self:
        """Return a score that has seen no sample."""
        return cls(num_frames)

    def accumulate(self, forecast: np.ndarray, truth: np.ndarray, mass: np.ndarray | None = None) -> None:
        """Add one sample.

        Parameters
        ----------
        forecast, truth
            `(T, *space)`: 1 (or True) where affected, 0 elsewhere, NaN where not known.
        mass
            Of the gas in every voxel `(*space)`, in any unit; the same in all where not given.
        """
        forecast, truth = check_sample(forecast, truth, self.num_frames)
        axes = tuple(range(1, forecast.ndim))
        known = ~(np.isnan(forecast) | np.isnan(truth))
        named = np.nan_to_num(forecast) > 0.5
        affected = np.nan_to_num(truth) > 0.5
        leads = slice(0, len(forecast))
        self._both[leads] += (known & named & affected).sum(axis=axes)
        self._only_forecast[leads] += (known & named & ~affected).sum(axis=axes)
        missed = known & ~named & affected
        self._only_truth[leads] += missed.sum(axis=axes)
        weight = 1.0 if mass is None else mass
        self._missed_mass[leads] += (missed * weight).sum(axis=axes)
        self._affected_mass[leads] += ((known & affected) * weight).sum(axis=axes)

    def merge(self, other: Self) -> Self:
        """Return the score of the samples of both."""
        check_mergeable(self, other)
        merged = type(self).start(self.num_frames)
        merged._both = self._both + other._both
        merged._only_forecast = self._only_forecast + other._only_forecast
        merged._only_truth = self._only_truth + other._only_truth
        merged._missed_mass = self._missed_mass + other._missed_mass
        merged._affected_mass = self._affected_mass + other._affected_mass
        return merged

    def compute(self) -> Overlap:
        """Return the agreement per lead time, each `(num_frames,)`."""
        return Overlap(
            iou=_ratio(self._both, self._both + self._only_forecast + self._only_truth),
            recall=_ratio(self._both, self._both + self._only_truth),
            precision=_ratio(self._both, self._both + self._only_forecast),
            missed_mass=_ratio(self._missed_mass, self._affected_mass),
        )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
