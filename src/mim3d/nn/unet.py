"""U-Net: all frames at once, the choice of the papers' authors after 3D-MIM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recompute

from mim3d.errors import UserError
from mim3d.nn.conv import ConvNd, ConvNorm, with_fan_in
from mim3d.nn.network import ForecastNetwork, check_grid

_OUTPUT_WEIGHT_BOUND = 1e-3
_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


class UNet(ForecastNetwork):
    """U-Net from the input frames to `output_length` frames in one pass.

    Input frames are channels of one image. Two convolutions a stage; each stage but the first halves the grid
    by taking the largest of 2^d voxels; the way back doubles it and joins what the way down had at each size.
    A forecast of more frames goes on from the network's own.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Channels of the stages, from fine to coarse.
    kernel_size
        Voxels along every axis of the kernels.
    num_axes
        Axes of space, 1 to 3.
    grid
        Voxels along each axis of a frame, divisible by `2**(len(hidden_channels) - 1)`, to be checked; any
        such grid works.
    input_length
        Frames that go in.
    output_length
        Frames that come out.
    layer_norm
        Whether every convolution is layer-normalised.
    residual
        Whether the output is the change since the last input frame. The last layer starts near zero, so that
        an untrained network then is persistence.
    static_channels
        How many channels, the last ones, are given and not forecast; those of the last input frame are used.

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
        super().__init__(in_channels, num_axes, static_channels, residual)
        self.hidden_channels = tuple(hidden_channels)
        if not self.hidden_channels:
            raise UserError("hidden_channels needs one entry a stage, found none")
        for name, length in (("input_length", input_length), ("output_length", output_length)):
            if length < 1:
                raise UserError(f"{name} must be at least 1, found {length}")
        self.kernel_size = kernel_size
        self.grid = None if grid is None else tuple(grid)
        self.input_length = input_length
        self.output_length = output_length
        self.layer_norm = layer_norm
        self._check_size(grid)

        def stage(before: int, after: int) -> nn.Module:
            return _TwoConvolutions(num_axes, before, after, kernel_size, layer_norm)

        frames = input_length * self.dynamic_channels + static_channels
        self.encoder = nn.ModuleList(
            stage(before, after) for before, after in pairwise((frames, *self.hidden_channels))
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

    def unroll(
        self, frames: Tensor, input_length: int, keep: Tensor | None = None, checkpoint: bool = False
    ) -> Tensor:
        """Forecast the frames after `input_length`, `(B, T - input_length, C, *space)`.

        See `ForecastNetwork.unroll`. No true frame can be fed on the way: `keep` is an error.
        """
        self._check_sequence(frames, input_length, keep)
        if keep is not None:
            raise UserError(
                "a U-Net forecasts all frames at once, so true frames cannot be fed on the way: set "
                "sampling.start to 0"
            )
        if input_length != self.input_length:
            raise UserError(
                f"the network takes input_length = {self.input_length} frames, found {input_length}"
            )
        return self._roll_out(frames[:, :input_length], frames.shape[1] - input_length, checkpoint)

    def forecast(self, frames: Tensor, steps: int, limits: Tensor | None = None) -> Tensor:
        """Forecast the frames that follow the last `input_length`; see `ForecastNetwork.forecast`."""
        self._check_past(frames, steps)
        if frames.shape[1] < self.input_length:
            raise UserError(
                f"frames must hold at least input_length = {self.input_length}, found {frames.shape[1]}"
            )
        return self._roll_out(frames[:, -self.input_length :], steps, checkpoint=False, limits=limits)

    def _roll_out(self, past: Tensor, steps: int, checkpoint: bool, limits: Tensor | None = None) -> Tensor:
        """Repeat the network until there are enough frames."""
        self._check_size(past.shape[3:])
        outputs: list[Tensor] = []
        for _ in range(0, steps, self.output_length):
            outputs.append(self._within(self._all_at_once(past, checkpoint), limits))
            past = torch.cat((past, outputs[-1]), 1)[:, -self.input_length :]
        return torch.cat(outputs, 1)[:, :steps]

    def _all_at_once(self, past: Tensor, checkpoint: bool) -> Tensor:
        """Forecast `output_length` frames."""

        def run(stage: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            if not checkpoint:
                return stage(x)
            return recompute(stage, x, use_reentrant=False)  # type: ignore[return-value]

        last, static = past[:, -1, : self.dynamic_channels], past[:, -1, self.dynamic_channels :]
        x = torch.cat((past[:, :, : self.dynamic_channels].flatten(1, 2), static), 1)
        skips: list[Tensor] = []
        for depth, stage in enumerate(self.encoder):
            if depth:
                skips.append(x)
                x = _POOL[self.num_axes](x, 2)
            x = run(stage, x)
        for stage in self.decoder:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = run(stage, torch.cat((x, skips.pop()), 1))
        output = self.to_frames(x).to(past.dtype)
        output = output.unflatten(1, (self.output_length, self.dynamic_channels))
        if self.residual:
            output = output + last[:, None]
        return torch.cat((output, static[:, None].expand(-1, self.output_length, *static.shape[1:])), 2)

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
