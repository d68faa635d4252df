"""What training makes small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mim3d.errors import UserError

LossKind = Literal["absolute", "squared", "half-sum-squared"]


class ForecastLoss(nn.Module):
    """Error of forecast frames in scaled units.

    The channel `affected` is 0 or 1, so what is forecast of it is a probability: its error is squared
    whatever the kind, because the squared error is smallest at the true probability (the Brier score) and the
    absolute error at 0 or 1. No logit stands between: the value itself is fed back into the network.

    Parameters
    ----------
    channels
        Names of the channels that are forecast, in order.
    kind
        `absolute` or `squared` error, averaged over everything; or `half-sum-squared`, that of the original
        programs: half the sum of squares of a clip, averaged over clips.
    changed_weight
        Voxels whose truth differs from the last input frame by more than `changed_threshold` in any channel
        weigh `1 + changed_weight`. The averages are over weights, so the size of the loss stays comparable.
    changed_threshold
        In scaled units.
    channel_weights
        By name of channel; 1 where not given.

    Raises
    ------
    UserError
        If a weight names a channel that is not forecast or is negative.
    """

    def __init__(
        self,
        channels: Sequence[str],
        kind: LossKind = "absolute",
        changed_weight: float = 0.0,
        changed_threshold: float = 0.1,
        channel_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        weights = dict(channel_weights or {})
        if unknown := set(weights) - set(channels):
            raise UserError(
                f"loss.channel_weights names {', '.join(sorted(unknown))}, but the channels are: "
                f"{', '.join(channels)}"
            )
        if changed_weight < 0 or any(weight < 0 for weight in weights.values()):
            raise UserError("weights of the loss must not be negative")
        self.kind: LossKind = kind
        self.changed_weight = changed_weight
        self.changed_threshold = changed_threshold
        self.affected = channels.index("affected") if "affected" in channels else None
        self.channel_weights: Tensor
        self.register_buffer(
            "channel_weights", torch.tensor([weights.get(name, 1.0) for name in channels]), persistent=False
        )

    def forward(self, forecast: Tensor, truth: Tensor, last_input: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        forecast, truth
            `(B, T, C, *space)`, forecast channels only.
        last_input
            `(B, C, *space)`, the last frame that was given.

        Returns
        -------
        torch.Tensor
            A scalar, float32 whatever the precision of the network.
        """
        truth = truth.float()
        difference = forecast.float() - truth
        error = difference.square()
        if self.kind == "absolute":
            error = difference.abs()
            if self.affected is not None:
                error[:, :, self.affected] = difference[:, :, self.affected].square()
        weight = self.channel_weights.view(-1, *(1,) * (truth.ndim - 3))
        if self.changed_weight:
            change = (truth - last_input.float().unsqueeze(1)).abs().amax(dim=2, keepdim=True)
            weight = weight * (1 + self.changed_weight * (change > self.changed_threshold))
        weighted = error * weight
        if self.kind == "half-sum-squared":
            return 0.5 * weighted.sum() / len(truth)
        return weighted.sum() / weight.expand_as(error).sum()
