"""Variance-scaled root mean squared error."""

from __future__ import annotations

import numpy as np

from mim3d.metrics.streaming import MeanScore, mean_or_nan

VARIANCE_FLOOR = 1e-7
"""Added to the variance, in the field's own unit squared, as in The Well."""


class VRMSE(MeanScore):
    r"""Root mean squared error in units of the truth's own spread; 1 is as good as the truth's mean.

    .. math:: \sqrt{\langle |u-v|^2\rangle / (\langle |u-\bar u|^2\rangle + 10^{-7})}

    with spatial means, per sample and lead time, on one scalar field (or one component of a vector) in its
    own unit.

    References
    ----------
    The Well, arXiv:2412.00568, section 4.
    """

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the VRMSE of one frame."""
        truth = np.where(np.isnan(forecast), np.nan, truth)
        mean = mean_or_nan(truth)
        variance = mean_or_nan(np.square(truth - mean))
        return float(np.sqrt(mean_or_nan(np.square(forecast - truth)) / (variance + VARIANCE_FLOOR)))
