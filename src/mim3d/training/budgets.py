"""What a blast wave carries as a whole: how far a forecast's mass, heat and outward momentum are off."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mim3d.data import Scaling
from mim3d.errors import UserError
from mim3d.supernova.cooling import theta_of_temperature

_LEAST_SHARE = 0.1
"""Share of the largest amount of a clip below which an amount is not divided by: it may be zero."""


class BudgetLoss(nn.Module):
    """Deviations of sums over space, which an error voxel by voxel is blind to.

    The error of log density or log temperature that is smallest on average gives the median of what may be,
    and sums of medians are too small where a few voxels hold most of the heat. This adds up, in every frame,

    - the mass;
    - the heat (pressure, or density and temperature), of which the pressure is summed;
    - the momentum away from the site, where velocities and the marker `site` are known: the direction is that
      in which the marker falls, for voxels that are cubes.

    Deviations of heat and momentum are relative to what the explosion has added by then, that of the mass to
    all mass.

    Parameters
    ----------
    channels
        Names of the channels that are forecast, in order.
    static
        Names of the channels that are given, in order.

    Raises
    ------
    UserError
        If no density is forecast.
    """

    def __init__(self, channels: Sequence[str], static: Sequence[str] = ()) -> None:
        super().__init__()
        if "density" not in channels:
            raise UserError("loss.budget_weight needs the field 'density' in data.fields")
        velocity = [f"velocity_{axis}" for axis in "xyz"]
        has_momentum = "site" in static and set(velocity) <= set(channels)
        self._site = static.index("site") if has_momentum else None
        heat = ("pressure",) if "pressure" in channels else ("temperature",)
        names = ["density", *(name for name in heat if name in channels)]
        self._names = tuple(names + velocity * has_momentum)
        self._index = [channels.index(name) for name in self._names]

    def forward(
        self, forecast: Tensor, truth: Tensor, start: Tensor, static: Tensor, scaling: Scaling
    ) -> Tensor:
        """Return the mean size of the deviations of mass, heat and momentum, over clips and frames.

        Parameters
        ----------
        forecast, truth
            `(B, T, C, *space)`, scaled. A frame whose truth has gaps does not count.
        start
            `(B, C, *space)`: the last frame before the explosion, scaled.
        static
            `(B, S, *space)`, the given channels.
        scaling
            Of the forecast channels.

        Returns
        -------
        torch.Tensor
            A scalar.
        """
        outward = None if self._site is None else _downhill(static[:, self._site].float())
        own = scaling.select(self._names)
        low, high = (
            torch.tensor(limit, device=truth.device).view(-1, *(1,) * (truth.ndim - 3))
            for limit in (own.low, own.high)
        )
        # Beyond the range of the data, powers of ten would overflow early in a training.
        made = self._amounts(forecast[:, :, self._index].float().clamp(low, high), own, outward)
        with torch.no_grad():
            true = self._amounts(truth[:, :, self._index].float(), own, outward)
            before = self._amounts(start[:, None, self._index].float(), own, outward)
            # Of the mass, all counts; of heat and momentum, what has come.
            added = torch.cat([true[..., :1], true[..., 1:] - before[..., 1:]], dim=-1)
            size = torch.maximum(added, _LEAST_SHARE * added.nan_to_num().amax(dim=1, keepdim=True))
            known = torch.isfinite(true) & torch.isfinite(size) & (size > 0)
        true, size = torch.where(known, true, made.detach()), torch.where(known, size, 1.0)
        return ((made - true).abs() / size).sum() / known.sum().clamp(min=1)

    def _amounts(self, scaled: Tensor, scaling: Scaling, outward: Tensor | None) -> Tensor:
        """Sum over space: `(B, T, C, *space)` to `(B, T, amounts)`, mass first."""
        values = dict(
            zip(self._names, scaling.inverse(scaled, num_axes=scaled.ndim - 3).unbind(2), strict=True)
        )
        density = values["density"]
        amounts = [density]
        if "pressure" in values:
            amounts.append(values["pressure"])
        elif "temperature" in values:
            amounts.append(density * theta_of_temperature(values["temperature"]))
        if outward is not None:
            velocity = torch.stack([values[f"velocity_{axis}"] for axis in "xyz"], dim=2)
            amounts.append(density * (velocity * outward[:, None]).sum(dim=2))
        return torch.stack([amount.flatten(2).sum(dim=2) for amount in amounts], dim=-1)


def _downhill(marker: Tensor) -> Tensor:
    """Return unit vectors `(B, axes, *space)` along which a field `(B, *space)` falls; 0 where it is flat."""
    axes = tuple(range(1, marker.ndim))
    slopes = torch.stack(torch.gradient(marker, dim=axes), dim=1)
    return -slopes / torch.linalg.vector_norm(slopes, dim=1, keepdim=True).clamp(min=1e-6)
