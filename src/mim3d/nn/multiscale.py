"""Memory In Memory on a coarse grid, between a convolutional encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.nn.cells import Peephole
from mim3d.nn.conv import ConvNd
from mim3d.nn.forecaster import RecurrentForecaster, check_grid
from mim3d.nn.stack import MIMStack, StackState

_OUTPUT_WEIGHT_BOUND = 1e-3


class MultiscaleMIM(RecurrentForecaster):
    """MIM whose memory lives on a coarse grid, with fine detail carried around it.

    The encoder halves the grid once per entry of `encoder_channels`; `MIMStack` takes its step on the
    coarsest grid, where a small kernel sees far; the decoder doubles the grid back, and at each size joins
    what the encoder had there. The last layer starts near zero, so that an untrained network with
    `residual=True` is persistence.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Hidden channels of the recurrent core, one entry a layer, all equal.
    kernel_size
        Voxels along every axis of all kernels.
    num_axes
        Axes of space, 1 to 3.
    grid
        Voxels along each axis of a frame, divisible by 2**len(encoder_channels); needed where `peephole` is
        "voxel".
    encoder_channels
        Channels after each halving of the grid.
    layer_norm
        Whether the recurrent core's convolutions are layer-normalised.
    peephole
        "voxel", "channel" or "none"; see `MIM`.
    residual
        Whether the output is the change from frame to frame.
    static_channels
        How many channels, the last ones, are given and not forecast.

    Raises
    ------
    UserError
        If an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int] = (48, 48, 48),
        kernel_size: int = 3,
        *,
        num_axes: int,
        grid: Sequence[int] | None = None,
        encoder_channels: Sequence[int] = (12, 24),
        layer_norm: bool = True,
        peephole: Peephole = "channel",
        residual: bool = True,
        static_channels: int = 0,
    ) -> None:
        super().__init__(in_channels, num_axes, static_channels, residual)
        self.encoder_channels = tuple(encoder_channels)
        self.hidden_channels = tuple(hidden_channels)
        self.kernel_size = kernel_size
        self.grid = None if grid is None else tuple(grid)
        self.layer_norm = layer_norm
        self.peephole = peephole
        coarse = check_grid(grid, num_axes, 2 ** len(self.encoder_channels), "2**len(encoder_channels)")
        widths = (in_channels, *self.encoder_channels)
        self.encoder = nn.ModuleList(
            _with_fan_in(ConvNd(num_axes, fine, coarse_width, kernel_size, stride=2))
            for fine, coarse_width in pairwise(widths)
        )
        self.stack = MIMStack(
            num_axes, widths[-1], self.hidden_channels, kernel_size, coarse, layer_norm, peephole
        )
        # From coarse to fine; the finest joins the frame itself and has as many channels as the first stage.
        below = (self.hidden_channels[-1], *reversed(self.encoder_channels))
        joined = tuple(reversed(widths[:-1]))
        decoded = (*reversed(self.encoder_channels[:-1]), self.encoder_channels[0])
        self.decoder = nn.ModuleList()
        width = below[0]
        for skip, out in zip(joined, decoded, strict=True):
            self.decoder.append(_with_fan_in(ConvNd(num_axes, width + skip, out, kernel_size)))
            width = out
        self.to_frame = ConvNd(num_axes, width, self.dynamic_channels, 1, bound=_OUTPUT_WEIGHT_BOUND)

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""
        return {
            "in_channels": self.in_channels,
            "hidden_channels": list(self.hidden_channels),
            "kernel_size": self.kernel_size,
            "num_axes": self.num_axes,
            "grid": None if self.grid is None else list(self.grid),
            "encoder_channels": list(self.encoder_channels),
            "layer_norm": self.layer_norm,
            "peephole": self.peephole,
            "residual": self.residual,
            "static_channels": self.static_channels,
        }

    def step(self, frame: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """Take one step; see `RecurrentForecaster.step`."""
        self._check_frame(frame)
        check_grid(frame.shape[2:], self.num_axes, 2 ** len(self.encoder), "2**len(encoder_channels)")
        x = frame
        skips: list[Tensor] = []
        for conv in self.encoder:
            skips.append(x)
            x = functional.gelu(conv(x))
        x, new_state = self.stack(x, state)
        for conv in self.decoder:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = functional.gelu(conv(torch.cat((x, skips.pop()), 1)))
        return self._next_frame(frame, self.to_frame(x)), new_state


def _with_fan_in(conv: ConvNd) -> ConvNd:
    """Start a convolution that no normalisation follows so that it keeps the variance (arXiv 1502.01852)."""
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return conv
