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
    channel_weights
        By name of channel; 1 where not given.
    site_weight
        Voxels weigh `1 + site_weight * marker`, where `marker` is the given channel `site`: 1 where the star
        explodes, 0 from 30 pc on. The weight follows from the input alone; one that followed the truth (more
        where the gas has changed) would teach the network to forecast more change than there is. The averages
        are over weights, so the size of the loss stays comparable.
    static
        Names of the channels that are given, in order.

    Raises
    ------
    UserError
        If a weight names a channel that is not forecast or is negative, or the site is to weigh more and no
        channel marks it.
    """

    def __init__(
        self,
        channels: Sequence[str],
        kind: LossKind = "absolute",
        channel_weights: Mapping[str, float] | None = None,
        site_weight: float = 0.0,
        static: Sequence[str] = (),
    ) -> None:
        super().__init__()
        weights = dict(channel_weights or {})
        if unknown := set(weights) - set(channels):
            raise UserError(
                f"loss.channel_weights names {', '.join(sorted(unknown))}, but the channels are: "
                f"{', '.join(channels)}"
            )
        if site_weight < 0 or any(weight < 0 for weight in weights.values()):
            raise UserError("weights of the loss must not be negative")
        self.kind: LossKind = kind
        if site_weight and "site" not in static:
            raise UserError("loss.site_weight needs the channel 'site' in data.static")
        self.site_weight = site_weight
        self.site = static.index("site") if site_weight else None
        self.affected = channels.index("affected") if "affected" in channels else None
        self.channel_weights: Tensor
        self.register_buffer(
            "channel_weights", torch.tensor([weights.get(name, 1.0) for name in channels]), persistent=False
        )

    def forward(self, forecast: Tensor, truth: Tensor, static: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        forecast, truth
            `(B, T, C, *space)`, forecast channels only. Where the truth is NaN it is not known and does not
            count.
        static
            `(B, S, *space)`, the given channels.

        Returns
        -------
        torch.Tensor
            A scalar, float32 whatever the precision of the network.
        """
        weight = self.channel_weights.view(-1, *(1,) * (truth.ndim - 3))
        if self.site is not None:
            weight = weight * (1 + self.site_weight * static[:, self.site, None].float())
        weight = weight.expand_as(truth[:, 0])
        # Frame by frame: one fits into a processor's cache, all of a clip do not.
        frames = zip(forecast.unbind(1), truth.unbind(1), strict=True)
        has_gaps = bool(truth.sum().isnan())
        errors, weights = zip(
            *(self._of_frame(made, true, weight, has_gaps) for made, true in frames), strict=True
        )
        total = torch.stack(errors).sum()
        if self.kind == "half-sum-squared":
            return 0.5 * total / len(truth)
        return total / torch.stack(weights).sum()

    def _of_frame(
        self, forecast: Tensor, truth: Tensor, weight: Tensor, has_gaps: bool
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted errors of one frame, and their weights."""
        truth = truth.float()
        if has_gaps:
            unknown = truth.isnan()
            truth = torch.where(unknown, forecast.detach().float(), truth)
            weight = weight * ~unknown
        difference = forecast.float() - truth
        if self.kind != "absolute":
            error = difference.square()
        else:
            error = difference.abs()
            if self.affected is not None:
                error[:, self.affected] = difference[:, self.affected].square()
        return (error * weight).sum(), weight.sum()
