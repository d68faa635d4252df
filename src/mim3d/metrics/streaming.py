"""Scores that stream over samples, one number per lead time."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Self

import numpy as np

from mim3d.errors import UserError

FORECASTS = {"forecast": "", "persistence": "persistence_"}
"""What is scored beside each other, and what the names of its scores begin with."""


class MeanScore(ABC):
    """Mean over samples of one number per frame.

    `start` an empty score, `accumulate` samples as they come, `merge` scores of different workers, `compute`
    at any moment. Voxels that are NaN in the forecast or in the truth are left out; a frame without a single
    known voxel does not count.

    Parameters
    ----------
    num_frames
        Lead times that are scored; samples may be shorter.
    """

    def __init__(self, num_frames: int) -> None:
        if num_frames < 1:
            raise UserError(f"num_frames must be at least 1, got {num_frames}")
        self.num_frames = num_frames
        self._total = np.zeros(num_frames)
        self._count = np.zeros(num_frames, dtype=np.int64)

    @classmethod
    def start(cls, num_frames: int) -> Self:
        """Return a score that has seen no sample."""
        return cls(num_frames)

    @abstractmethod
    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the score of one frame of one sample; NaN where there is nothing to compare."""

    def accumulate(self, forecast: np.ndarray, truth: np.ndarray) -> None:
        """Add one sample.

        Parameters
        ----------
        forecast, truth
            `(T, *space)` (or any other trailing axes), the same shape, T at most `num_frames`.

        Raises
        ------
        UserError
            If the shapes differ or there are more frames than lead times.
        """
        forecast, truth = check_sample(forecast, truth, self.num_frames)
        for lead, (forecast_frame, true_frame) in enumerate(zip(forecast, truth, strict=True)):
            self._add(lead, self.frame_value(forecast_frame, true_frame))

    def _add(self, lead: int, value: float) -> None:
        if not np.isnan(value):
            self._total[lead] += value
            self._count[lead] += 1

    def merge(self, other: Self) -> Self:
        """Return the score of the samples of both."""
        check_mergeable(self, other)
        merged = copy.copy(self)
        merged._total = self._total + other._total
        merged._count = self._count + other._count
        return merged

    def compute(self) -> np.ndarray:
        """Return the mean over samples, `(num_frames,)`; NaN where no sample reached."""
        return np.where(self._count > 0, self._total / np.maximum(self._count, 1), np.nan)


def check_sample(forecast: np.ndarray, truth: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 arrays of the same shape, or say what does not fit."""
    forecast = np.asarray(forecast, dtype=np.float64)
    truth = np.asarray(truth, dtype=np.float64)
    if forecast.shape != truth.shape:
        raise UserError(f"forecast has shape {forecast.shape}, the truth {truth.shape}")
    if forecast.ndim == 0 or len(forecast) > num_frames:
        raise UserError(f"a sample needs 1 to {num_frames} frames along its first axis, got {forecast.shape}")
    return forecast, truth


def persistence_of(
    truth: np.ndarray, last_input: np.ndarray, missing: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the last given frame in place of every frame, and the truth with NaN where it is missing."""
    truth = np.asarray(truth, np.float64)
    if truth.ndim < 2 or np.shape(last_input) != truth.shape[1:]:
        raise UserError(
            f"frames must be (T, C, *space) and last_input one of them, found {truth.shape} "
            f"and {np.shape(last_input)}"
        )
    if missing is not None:
        if np.shape(missing) != truth.shape:
            raise UserError(f"missing has shape {np.shape(missing)}, the truth {truth.shape}")
        truth = np.where(missing, np.nan, truth)
    return np.broadcast_to(np.asarray(last_input, np.float64), truth.shape), truth


def check_mergeable(score: object, other: object) -> None:
    """Refuse to merge scores of different kinds or lengths."""
    if type(score) is not type(other):
        raise UserError(f"cannot merge {type(other).__name__} into {type(score).__name__}")
    if vars(score).get("num_frames") != vars(other).get("num_frames"):
        raise UserError("cannot merge scores with different numbers of lead times")
    if vars(score).get("data_range") != vars(other).get("data_range"):
        raise UserError("cannot merge scores of different data ranges")


def mean_or_nan(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN, without a warning, if there is none."""
    known = ~np.isnan(values)
    return float(values[known].mean()) if known.any() else float("nan")
