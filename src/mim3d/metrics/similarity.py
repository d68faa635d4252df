"""How alike forecast and true frames look: peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import ndimage

from mim3d.errors import UserError
from mim3d.metrics.streaming import MeanScore, mean_or_nan

WINDOW = 7
"""Side of the windows of structural similarity [pixels]."""


class _RangedScore(MeanScore):
    """A mean score that depends on how far apart black and white are.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    data_range
        Difference between the highest and the lowest value that a frame is meant to have.
    """

    def __init__(self, num_frames: int, data_range: float = 1.0) -> None:
        super().__init__(num_frames)
        if not 0 < data_range < np.inf:
            raise UserError(f"data_range must be > 0, found {data_range}")
        self.data_range = float(data_range)

    @classmethod
    def start(cls, num_frames: int, data_range: float = 1.0) -> Self:
        """Return a score that has seen no sample."""
        return cls(num_frames, data_range)


class PeakSignalToNoiseRatio(_RangedScore):
    r"""Peak signal-to-noise ratio of every frame, then averaged over samples [dB].

    .. math:: 10\,\log_{10}(L^2 / \langle (u-v)^2\rangle)

    with the data range L and the mean over all pixels and channels of one frame. Infinite for a frame that is
    forecast exactly, and so is then the mean.

    Notes
    -----
    MIM's program (arXiv 1811.07490) takes frames that were clipped to [0, 1] and cut off to whole numbers of
    255; that is this score on such frames with `data_range=255`.
    """

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the ratio of one frame [dB]."""
        error = mean_or_nan(np.square(forecast - truth))
        return np.inf if error == 0 else float(10 * np.log10(self.data_range**2 / error))


class StructuralSimilarity(_RangedScore):
    r"""Structural similarity of every frame, averaged over windows, channels and samples; 1 for equal frames.

    .. math:: \frac{(2\mu_u\mu_v + C_1)(2\sigma_{uv} + C_2)}{(\mu_u^2+\mu_v^2+C_1)(\sigma_u^2+\sigma_v^2+C_2)}

    with means, variances and covariances (of samples, divided by n - 1) in windows of 7 pixels a side that
    lie within the frame, C_1 = (0.01 L)^2, C_2 = (0.03 L)^2 and the data range L. Frames are `(C, *space)`
    with any number of axes of space; windows that touch pixels that are not known do not count.

    Notes
    -----
    Equal to scikit-image's `structural_similarity` with `channel_axis=0` and the same `data_range`. MIM's
    program gave none for frames of floating-point numbers in [0, 1], which an earlier scikit-image took to be
    2, so its published numbers are those of `data_range=2`, which are nearer to 1. The right range of such
    frames is 1, the default.

    References
    ----------
    Wang, Bovik, Sheikh & Simoncelli 2004, IEEE Trans. Image Process. 13, 600, eq. 13.
    """

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the similarity of one frame `(C, *space)`."""
        if forecast.ndim < 2 or min(forecast.shape[1:]) < WINDOW:
            raise UserError(
                f"structural similarity needs frames (C, *space) of {WINDOW} pixels a side or more, "
                f"found {forecast.shape}"
            )
        missing = np.isnan(forecast) | np.isnan(truth)
        some_missing = bool(missing.any())
        if some_missing:
            forecast, truth = np.where(missing, 0, forecast), np.where(missing, 0, truth)
        count = WINDOW ** (forecast.ndim - 1)
        sample = count / (count - 1)
        mean_u, mean_v = _window_mean(forecast), _window_mean(truth)
        variance_u = sample * (_window_mean(forecast**2) - mean_u**2)
        variance_v = sample * (_window_mean(truth**2) - mean_v**2)
        covariance = sample * (_window_mean(forecast * truth) - mean_u * mean_v)
        c1, c2 = (0.01 * self.data_range) ** 2, (0.03 * self.data_range) ** 2
        similarity = ((2 * mean_u * mean_v + c1) * (2 * covariance + c2)) / (
            (mean_u**2 + mean_v**2 + c1) * (variance_u + variance_v + c2)
        )
        if some_missing:
            touched = _window_mean(missing.astype(np.float64)) > 0.5 / count
            similarity = np.where(touched, np.nan, similarity)
        return mean_or_nan(similarity)


def _window_mean(values: np.ndarray) -> np.ndarray:
    """Return the means of all windows that lie within a frame `(C, *space)`."""
    num_axes = values.ndim - 1
    means = ndimage.uniform_filter(values, WINDOW, axes=tuple(range(1, num_axes + 1)))
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    return means[(slice(None), *(inside,) * num_axes)]
