"""Mean squared and mean absolute error."""

from __future__ import annotations

import numpy as np

from mim3d.metrics.streaming import MeanScore, mean_or_nan


class MeanSquaredError(MeanScore):
    """Mean over voxels of the squared difference, in the field's unit squared."""

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the mean squared difference of one frame."""
        return mean_or_nan(np.square(forecast - truth))


class MeanAbsoluteError(MeanScore):
    """Mean over voxels of the absolute difference, in the field's unit."""

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the mean absolute difference of one frame."""
        return mean_or_nan(np.abs(forecast - truth))


class SummedSquaredError(MeanScore):
    """Sum over a frame of the squared difference: the "MSE" of the Moving MNIST tables."""

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the summed squared difference of one frame."""
        return mean_or_nan(np.square(forecast - truth)) * forecast.size


class SummedAbsoluteError(MeanScore):
    """Sum over a frame of the absolute difference: the "MAE" of the Moving MNIST tables."""

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the summed absolute difference of one frame."""
        return mean_or_nan(np.abs(forecast - truth)) * forecast.size
