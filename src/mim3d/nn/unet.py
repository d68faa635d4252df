"""U-Net: all frames at once, the choice of the papers' authors after 3D-MIM."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.errors import UserError
from mim3d.nn.conv import ConvNd, ConvNorm, with_fan_in
from mim3d.nn.direct import DirectForecaster
from mim3d.nn.network import check_grid, run

_OUTPUT_WEIGHT_BOUND = 1e-3
_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


class UNet(DirectForecaster):
    """U-Net from the input frames to `output_length` frames in one pass.

    Two convolutions a stage; each stage but the first halves the grid by taking the largest of 2^d voxels;
    the way back doubles it and joins what the way down had at each size.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Channels of the stages, from fine to coarse.
    kernel_size
        Voxels along every axis of the kernels.
    num_axes, input_length, output_length, static_channels
        As in `DirectForecaster`.
    grid
        Voxels along each axis of a frame, divisible by `2**(len(hidden_channels) - 1)`, to be checked; any
        such grid works.
    layer_norm
        Whether every convolution is layer-normalised.
    residual
        Whether the output is the change since the last input frame. The last layer starts near zero, so that
        an untrained network then is persistence.

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
    ) -> None:
        super().__init__(in_channels, num_axes, input_length, output_length, residual, static_channels)
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
        self.decoder = nn.ModuleList(
            stage(below + skip, skip) for below, skip in pairwise(reversed(self.hidden_channels))
        )
        self.to_frames = ConvNd(
            num_axes,
            self.hidden_channels[0],
            output_length * self.dynamic_channels,
            1,
            bound=_OUTPUT_WEIGHT_BOUND,
        )

    def _predict(self, image: Tensor, checkpoint: bool) -> Tensor:
        x = image
        skips: list[Tensor] = []
        for depth, stage in enumerate(self.encoder):
            if depth:
                skips.append(x)
                x = _POOL[self.num_axes](x, 2)
            x = run(checkpoint, stage, x)
        for stage in self.decoder:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = run(checkpoint, stage, torch.cat((x, skips.pop()), 1))
        return self.to_frames(x)

    def _check_size(self, grid: Sequence[int] | None) -> None:
        check_grid(grid, self.num_axes, 2 ** (len(self.hidden_channels) - 1), "2**(len(hidden_channels) - 1)")


class _TwoConvolutions(nn.Module):
    """A stage of the U-Net."""

    def __init__(self, num_axes: int, before: int, after: int, kernel_size: int, layer_norm: bool) -> None:
        super().__init__()
        self.first = ConvNorm(num_axes, before, after, kernel_size, layer_norm)
        self.second = ConvNorm(num_axes, after, after, kernel_size, layer_norm)
        for convolution in (self.first, self.second):
            with_fan_in(convolution.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(B, before, *space)` into `(B, after, *space)`."""
        return functional.gelu(self.second(functional.gelu(self.first(x))))
