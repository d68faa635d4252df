"""U-Net: all frames at once, the choice of the papers' authors after 3D-MIM."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.errors import UserError
from mim3d.nn.conv import ConvNd, channels_last, with_fan_in
from mim3d.nn.direct import DirectForecaster
from mim3d.nn.network import check_grid, run
from mim3d.nn.norm import TensorLayerNorm

_OUTPUT_WEIGHT_BOUND = 1e-3
_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


class UNet(DirectForecaster):
    """U-Net from the input frames to `output_length` frames in one pass.

    Two convolutions a stage; each stage but the first halves the grid by taking the largest of 2^d voxels;
    the way back brings the channels to the number of the finer stage, doubles the grid and joins what the way
    down had at that size. The last layer also sees the input itself. Under autocast everything between input
    and output stays in half precision.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Channels of the stages, from fine to coarse.
    kernel_size
        Voxels along every axis of the kernels.
    num_axes, input_length, output_length, static_channels, guided
        As in `DirectForecaster`.
    grid
        Voxels along each axis of a frame, divisible by `2**(len(hidden_channels) - 1)`, to be checked; any
        such grid works.
    layer_norm
        Whether every convolution is layer-normalised.
    residual
        Whether the output is the change since the last input frame, or the guide's error. The last layer
        starts near zero, so that an untrained network then is persistence, or its guide.

    Raises
    ------
    UserError
        If an argument is out of range.

    References
    ----------
    Ronneberger et al. 2015, arXiv 1505.04597; Cicek et al. 2016, arXiv 1606.06650 (3-D). Of supernovae:
    Hirashima et al. 2023, arXiv 2311.08460.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int] = (32, 64, 128),
        kernel_size: int = 3,
        *,
        num_axes: int,
        grid: Sequence[int] | None = None,
        input_length: int = 1,
        output_length: int = 19,
        layer_norm: bool = True,
        residual: bool = True,
        static_channels: int = 0,
        guided: bool = False,
    ) -> None:
        super().__init__(
            in_channels, num_axes, input_length, output_length, residual, static_channels, guided
        )
        self.hidden_channels = tuple(hidden_channels)
        if not self.hidden_channels:
            raise UserError("hidden_channels needs one entry a stage, found none")
        self.kernel_size = kernel_size
        self.grid = None if grid is None else tuple(grid)
        self.layer_norm = layer_norm
        self._check_size(grid)

        def stage(before: int, after: int) -> nn.Module:
            return _TwoConvolutions(num_axes, before, after, kernel_size, layer_norm)

        self.encoder = nn.ModuleList(
            stage(before, after) for before, after in pairwise((self.image_channels, *self.hidden_channels))
        )
        # Fewer channels before the grid grows: three quarters of all products are those of the finest stage.
        self.up = nn.ModuleList(
            with_fan_in(ConvNd(num_axes, below, skip, 1))
            for below, skip in pairwise(reversed(self.hidden_channels))
        )
        self.decoder = nn.ModuleList(stage(2 * skip, skip) for skip in reversed(self.hidden_channels[:-1]))
        self.to_frames = ConvNd(
            num_axes,
            self.hidden_channels[0] + self.image_channels,
            output_length * self.dynamic_channels,
            1,
            bound=_OUTPUT_WEIGHT_BOUND,
        )

    def _predict(self, image: Tensor, checkpoint: bool) -> Tensor:
        x = image = channels_last(image)
        skips: list[Tensor] = []
        for depth, stage in enumerate(self.encoder):
            if depth:
                skips.append(x)
                x = _POOL[self.num_axes](x, 2)
            x = run(checkpoint, stage, x)
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = functional.interpolate(up(x), scale_factor=2.0, mode="nearest")
            x = run(checkpoint, stage, torch.cat((x, skips.pop()), 1))
        # Frames are compared and kept one by one.
        return self.to_frames(torch.cat((x, image.to(x.dtype)), 1)).contiguous()

    def weights_from(self, other: UNet, channels: Sequence[int]) -> dict[str, Tensor]:
        """Make weights for this network of those of another with more channels, or without a guide.

        Channels that this network lacks are left out. A guided network that starts from one without a guide
        forecasts the mean of its guide and of what the other forecasts.

        Parameters
        ----------
        other
            A network that has the same settings but for channels and guide.
        channels
            Place of each of this network's channels among the other's.
        """
        moved, given = channels[: self.dynamic_channels], channels[self.dynamic_channels :]

        def places(count: int, first: int = 0) -> list[int]:
            return [
                first + frame * other.dynamic_channels + place for frame in range(count) for place in moved
            ]

        before = (other.input_length - 1) * other.dynamic_channels
        image = places(other.input_length) + [before + place for place in given]
        if other.guided:
            image += places(other.output_length, before + other.dynamic_channels + other.static_channels)
        hidden = list(range(other.hidden_channels[0]))
        outputs = places(other.output_length)
        weights = dict(other.state_dict())
        first, last, bias = "encoder.0.0.weight", "to_frames.weight", "to_frames.bias"
        weights[first] = weights[first][:, image]
        weights[last] = weights[last][outputs][:, hidden + [len(hidden) + place for place in image]]
        weights[bias] = weights[bias][outputs]
        if self.guided and not other.guided:
            for name in (first, last):
                shape = list(weights[name].shape)
                shape[1] = len(outputs)
                weights[name] = torch.cat((weights[name], weights[name].new_zeros(shape)), 1)
            # The output is the guide's error.
            weights[last][:, -len(outputs) :].flatten(1).fill_diagonal_(-1.0)
            weights[last], weights[bias] = weights[last] / 2, weights[bias] / 2
        return weights

    def _check_size(self, grid: Sequence[int] | None) -> None:
        check_grid(grid, self.num_axes, 2 ** (len(self.hidden_channels) - 1), "2**(len(hidden_channels) - 1)")


class _TwoConvolutions(nn.Sequential):
    """A stage of the U-Net: `(B, before, *space)` into `(B, after, *space)`."""

    def __init__(self, num_axes: int, before: int, after: int, kernel_size: int, layer_norm: bool) -> None:
        super().__init__()
        for channels in (before, after):
            self.append(with_fan_in(ConvNd(num_axes, channels, after, kernel_size)))
            if layer_norm:
                self.append(TensorLayerNorm(num_axes, after))
            self.append(nn.SiLU())
