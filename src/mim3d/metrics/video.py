"""All scores of forecasts of images, with persistence beside."""

from __future__ import annotations

from typing import Self

import numpy as np

from mim3d.errors import UserError
from mim3d.metrics.errors import (
    MeanAbsoluteError,
    MeanSquaredError,
    SummedAbsoluteError,
    SummedSquaredError,
)
from mim3d.metrics.similarity import WINDOW, PeakSignalToNoiseRatio, StructuralSimilarity
from mim3d.metrics.streaming import FORECASTS, MeanScore, persistence_of

SCORES = ("mse", "mae", "summed_squared_error", "summed_absolute_error", "psnr", "ssim")
"""Names of the scores of a frame.

`mse` and `mae` are means over pixels and channels; the summed errors, over a frame, are what the tables of
Moving MNIST call MSE and MAE.
"""


class VideoScores:
    """Scores of forecast frames against true ones, per lead time, each beside persistence (nothing changes).

    Nothing is clipped or rounded before it is scored. For scores in physical units give frames in physical
    units, and their range.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    data_range
        Difference between the highest and the lowest value that a frame is meant to have.
    """

    def __init__(self, num_frames: int, data_range: float = 1.0) -> None:
        self.num_frames = num_frames
        self.data_range = data_range
        self.num_samples = 0
        self._scores: dict[str, dict[str, MeanScore]] = {
            who: {
                "mse": MeanSquaredError.start(num_frames),
                "mae": MeanAbsoluteError.start(num_frames),
                "summed_squared_error": SummedSquaredError.start(num_frames),
                "summed_absolute_error": SummedAbsoluteError.start(num_frames),
                "psnr": PeakSignalToNoiseRatio.start(num_frames, data_range),
                "ssim": StructuralSimilarity.start(num_frames, data_range),
            }
            for who in FORECASTS
        }

    @classmethod
    def start(cls, num_frames: int, data_range: float = 1.0) -> Self:
        """Return scores that have seen no sample."""
        return cls(num_frames, data_range)

    def accumulate(
        self,
        forecast: np.ndarray,
        truth: np.ndarray,
        last_input: np.ndarray,
        missing: np.ndarray | None = None,
    ) -> None:
        """Add one sequence.

        Parameters
        ----------
        forecast, truth
            `(T, C, *space)`, T at most `num_frames`.
        last_input
            `(C, *space)`: the last frame that was given, which persistence keeps.
        missing
            `(T, C, *space)`, True where the truth is not known; NaN in the truth says the same. A sum over a
            frame is then the mean over the known pixels times the number of all.

        Raises
        ------
        UserError
            If the shapes do not fit together.
        """
        kept, truth = persistence_of(truth, last_input, missing)
        large_enough = min(truth.shape[2:], default=0) >= WINDOW
        for who, values in (("forecast", forecast), ("persistence", kept)):
            for name, score in self._scores[who].items():
                if name != "ssim" or large_enough:
                    score.accumulate(values, truth)
        self.num_samples += 1

    def merge(self, other: Self) -> Self:
        """Return the scores of the samples of both."""
        if (self.num_frames, self.data_range) != (other.num_frames, other.data_range):
            raise UserError("cannot merge scores of different lead times or data ranges")
        merged = type(self).start(self.num_frames, self.data_range)
        merged.num_samples = self.num_samples + other.num_samples
        for who, scores in self._scores.items():
            for name, score in scores.items():
                merged._scores[who][name] = score.merge(other._scores[who][name])
        return merged

    def compute(self) -> dict[str, np.ndarray]:
        """Return every score of `SCORES` by name, each `(num_frames,)`, also with `persistence_` in front.

        Tables print the mean over the lead times. `ssim` is NaN where frames are smaller than its windows.
        """
        return {
            prefix + name: score.compute()
            for who, prefix in FORECASTS.items()
            for name, score in self._scores[who].items()
        }
