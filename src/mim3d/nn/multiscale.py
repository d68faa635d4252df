"""Memory In Memory on a coarse grid, between a convolutional encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.errors import UserError
from mim3d.nn.cells import Peephole
from mim3d.nn.conv import ConvNd, with_fan_in
from mim3d.nn.forecaster import RecurrentForecaster
from mim3d.nn.network import check_grid, run
from mim3d.nn.patching import depth_to_space, space_to_depth
from mim3d.nn.stack import Ablation, MIMStack, StackState

_OUTPUT_WEIGHT_BOUND = 1e-3


class MultiscaleMIM(RecurrentForecaster):
    """MIM whose memory lives on a coarse grid, with fine detail carried around it.

    Frames are patched as in `MIM`; the encoder's first stage keeps that grid and each further one halves
    it; `MIMStack` takes its step on the coarsest grid, where a small kernel sees far; the decoder doubles the
    grid back, and at each size joins what the encoder had there. The last layer starts near zero, so that an
    untrained network with `residual=True` is persistence.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Hidden channels of the recurrent core, one entry a layer, all equal.
    kernel_size
        Voxels along every axis of all kernels.
    num_axes, patch_size, peephole, residual, static_channels, ablation
        As in `MIM`.
    grid
        Voxels along each axis of a frame, divisible by `patch_size * 2**(len(encoder_channels) - 1)`; needed
        where `peephole` is "voxel".
    encoder_channels
        Channels of the encoder's stages, from fine to coarse.
    layer_norm
        Whether the recurrent core's convolutions are layer-normalised.

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
        patch_size: int = 2,
        encoder_channels: Sequence[int] = (32, 32),
        layer_norm: bool = True,
        peephole: Peephole = "channel",
        residual: bool = True,
        static_channels: int = 0,
        ablation: Ablation = "none",
    ) -> None:
        super().__init__(in_channels, num_axes, static_channels, residual)
        self.encoder_channels = tuple(encoder_channels)
        if not self.encoder_channels:
            raise UserError("encoder_channels needs at least one entry")
        self.hidden_channels = tuple(hidden_channels)
        self.kernel_size = kernel_size
        self.patch_size = patch_size
        self.grid = None if grid is None else tuple(grid)
        self.layer_norm = layer_norm
        self.peephole = peephole
        self.ablation = ablation
        coarse = self._coarse_grid(grid)
        patch_volume = patch_size**num_axes
        self.encoder = nn.ModuleList(
            with_fan_in(ConvNd(num_axes, before, after, kernel_size, stride=1 if stage == 0 else 2))
            for stage, (before, after) in enumerate(
                pairwise((in_channels * patch_volume, *self.encoder_channels))
            )
        )
        self.stack = MIMStack(
            num_axes,
            self.encoder_channels[-1],
            self.hidden_channels,
            kernel_size,
            coarse,
            layer_norm,
            peephole,
            ablation,
        )
        from_coarse = tuple(reversed(self.encoder_channels))
        self.decoder = nn.ModuleList(
            with_fan_in(ConvNd(num_axes, below + skip, skip, kernel_size))
            for below, skip in zip((self.hidden_channels[-1], *from_coarse), from_coarse, strict=False)
        )
        self.to_frame = ConvNd(
            num_axes,
            self.encoder_channels[0],
            self.dynamic_channels * patch_volume,
            kernel_size,
            bound=_OUTPUT_WEIGHT_BOUND,
        )

    def step(
        self, frame: Tensor, state: StackState | None = None, checkpoint: bool = False
    ) -> tuple[Tensor, StackState]:
        """Take one step; see `RecurrentForecaster.step`."""
        self._check_frame(frame)
        self._coarse_grid(frame.shape[2:])
        encoded = run(checkpoint, self._encode, frame)
        hidden, new_state = self.stack(encoded[-1], state, checkpoint)
        output = run(checkpoint, self._decode, hidden, *encoded)
        return self._next_frame(frame, output), new_state

    def _encode(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Return what every stage of the encoder makes, from fine to coarse."""
        x = space_to_depth(frame, self.patch_size, self.num_axes)
        encoded: list[Tensor] = []
        for conv in self.encoder:
            x = functional.gelu(conv(x))
            encoded.append(x)
        return tuple(encoded)

    def _decode(self, x: Tensor, *encoded: Tensor) -> Tensor:
        """Return the dynamic channels `(B, dynamic_channels, *space)`."""
        for stage, (conv, skip) in enumerate(zip(self.decoder, reversed(encoded), strict=True)):
            if stage > 0:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = functional.gelu(conv(torch.cat((x, skip), 1)))
        return depth_to_space(self.to_frame(x), self.patch_size, self.num_axes)

    def _coarse_grid(self, grid: Sequence[int] | None) -> tuple[int, ...] | None:
        factor = self.patch_size * 2 ** (len(self.encoder_channels) - 1)
        return check_grid(grid, self.num_axes, factor, "patch_size * 2**(len(encoder_channels) - 1)")
