"""Scores of whole forecasts on runs that were never trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mim3d.data import Scaling
from mim3d.metrics import AffectedOverlap, MidPlaneLogDensityError, SummedSquaredError


class ValidationScores:
    """Accumulates clips; clips of different processes are merged.

    Parameters
    ----------
    channels
        Names of the channels. `density` is scored on the mid-planes in dex, `affected` by intersection over
        union, and all together by the absolute error in scaled units.
    num_frames
        Frames that are forecast.
    scaling
        Turns scaled channels back into fields; without it only scaled errors are known.
    images
        Whether frames are images, which are scored by the squared error summed over a frame.
    """

    def __init__(
        self, channels: Sequence[str], num_frames: int, scaling: Scaling | None, images: bool = False
    ) -> None:
        self.channels = tuple(channels)
        self.scaling = scaling
        self.images = images
        self.squared = SummedSquaredError.start(num_frames)
        self.squared_persistence = SummedSquaredError.start(num_frames)
        self.midplane = MidPlaneLogDensityError.start(num_frames)
        self.persistence = MidPlaneLogDensityError.start(num_frames)
        self.overlap = AffectedOverlap.start(num_frames)
        self.totals = np.zeros(4)
        """Clips, loss, absolute error at the last frame of the forecast and of persistence."""

    def accumulate(self, forecast: Tensor, truth: Tensor, last_input: Tensor, loss: float) -> None:
        """Add clips.

        Parameters
        ----------
        forecast, truth
            `(B, T, C, *space)`, scaled; NaN where the truth is not known.
        last_input
            `(B, C, *space)`, what persistence keeps.
        loss
            Mean loss of these clips.
        """
        still = last_input.unsqueeze(1).expand_as(truth)
        last_error = (forecast[:, -1] - truth[:, -1]).abs().nanmean()
        last_change = (still[:, -1] - truth[:, -1]).abs().nanmean()
        if self.images:
            for made, true, kept in zip(
                *(x.float().cpu().numpy() for x in (forecast, truth, still)), strict=True
            ):
                self.squared.accumulate(made, true)
                self.squared_persistence.accumulate(kept, true)
        self.totals += len(truth) * np.array([1.0, loss, float(last_error), float(last_change)])
        if self.scaling is None:
            return
        num_axes = truth.ndim - 3
        fields = [
            self.scaling.inverse(x.float().cpu(), num_axes=num_axes).numpy() for x in (forecast, truth, still)
        ]
        if "density" in self.channels:
            index = self.channels.index("density")
            for made, true, kept in zip(*(x[:, :, index] for x in fields), strict=True):
                self.midplane.accumulate(made, true)
                self.persistence.accumulate(kept, true)
        if "affected" in self.channels:
            index = self.channels.index("affected")
            for made, true in zip(fields[0][:, :, index], fields[1][:, :, index], strict=True):
                self.overlap.accumulate(made, true)

    def merge(self, other: ValidationScores) -> ValidationScores:
        """Return the scores of the clips of both."""
        merged = ValidationScores(self.channels, self.midplane.num_frames, self.scaling, self.images)
        merged.squared = self.squared.merge(other.squared)
        merged.squared_persistence = self.squared_persistence.merge(other.squared_persistence)
        merged.midplane = self.midplane.merge(other.midplane)
        merged.persistence = self.persistence.merge(other.persistence)
        merged.overlap = self.overlap.merge(other.overlap)
        merged.totals = self.totals + other.totals
        return merged

    @classmethod
    def merge_all(cls, scores: Sequence[ValidationScores]) -> ValidationScores:
        """Return the scores of the clips of all."""
        merged, *others = scores
        for other in others:
            merged = merged.merge(other)
        return merged

    def compute(self) -> dict[str, float]:
        """Return the scores at the last frame, by name.

        `loss`; `ratio`, the absolute error over that of persistence, in scaled units; and, where the channels
        are there, `midplane_error` and `midplane_persistence` [dex], `midplane_ratio`, `affected_iou`. Of
        images also `frame_mse` and `frame_mse_persistence`: the squared error summed over a frame, averaged
        over all lead times.
        """
        clips, loss, error, change = self.totals
        scores = {"loss": loss / clips, "ratio": _ratio(error, change)}
        if self.images:
            scores["frame_mse"] = float(self.squared.compute().mean())
            scores["frame_mse_persistence"] = float(self.squared_persistence.compute().mean())
        if self.scaling is not None and "density" in self.channels:
            scores["midplane_error"] = float(self.midplane.compute()[-1])
            scores["midplane_persistence"] = float(self.persistence.compute()[-1])
            scores["midplane_ratio"] = _ratio(scores["midplane_error"], scores["midplane_persistence"])
        if self.scaling is not None and "affected" in self.channels:
            scores["affected_iou"] = float(self.overlap.compute().iou[-1])
        return {name: float(value) for name, value in scores.items()}


def _ratio(error: float, reference: float) -> float:
    return error / reference if reference > 0 else float("inf")
