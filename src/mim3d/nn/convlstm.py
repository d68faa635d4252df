"""ConvLSTM, the network that Memory In Memory is measured against first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from mim3d.errors import UserError
from mim3d.nn.cells import ConvLSTMCell, RecurrentState
from mim3d.nn.patched import PatchedForecaster
from mim3d.nn.precision import full_precision


class ConvLSTMStack(nn.Module):
    """Layers of `ConvLSTMCell`, each fed by the hidden state of the one below.

    Parameters
    ----------
    num_axes
        Axes of space, 1 to 3.
    in_channels
        Channels of the input.
    hidden_channels
        One entry a layer.
    kernel_size
        Voxels along every axis of the kernels.
    layer_norm
        Whether every convolution is layer-normalised.

    Raises
    ------
    UserError
        If `hidden_channels` is empty.
    """

    def __init__(
        self,
        num_axes: int,
        in_channels: int,
        hidden_channels: Sequence[int],
        kernel_size: int,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_channels = tuple(hidden_channels)
        if not self.hidden_channels:
            raise UserError("hidden_channels needs one entry a layer, found none")
        self.layers = nn.ModuleList(
            ConvLSTMCell(num_axes, below, hidden, kernel_size, None, layer_norm, peephole="none")
            for below, hidden in pairwise((in_channels, *self.hidden_channels))
        )

    def forward(
        self, x: Tensor, state: tuple[RecurrentState, ...] | None = None
    ) -> tuple[Tensor, tuple[RecurrentState, ...]]:
        """Take one step; see `MIMStack.forward`. The state has one entry a layer."""
        if state is None:
            zeros = (
                full_precision(x.new_zeros(x.shape[0], hidden, *x.shape[2:]))
                for hidden in self.hidden_channels
            )
            state = tuple(RecurrentState(zero, zero) for zero in zeros)
        new: list[RecurrentState] = []
        for layer, before in zip(self.layers, state, strict=True):
            x, after = layer(x, before)
            new.append(after)
        return x, tuple(new)


class ConvLSTM(PatchedForecaster):
    """Layers of convolutional LSTMs, without peepholes.

    A frame's patches become channels, the layers take a step, and a convolution of one voxel turns the top
    layer's hidden state into the next frame, as in `MIM`.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Hidden channels, one entry a layer.
    kernel_size
        Voxels along every axis of the kernels.
    num_axes
        Axes of space, 1 to 3.
    grid
        Voxels along each axis of a frame, before patching, to be checked; any grid works.
    patch_size
        Voxels along every side of the patches that become channels.
    layer_norm
        Whether every convolution is layer-normalised.
    residual
        Whether the output is the change from frame to frame.
    static_channels
        How many channels, the last ones, are given and not forecast.

    Raises
    ------
    UserError
        If an argument is out of range.

    References
    ----------
    Shi et al. 2015, arXiv 1506.04214.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int] = (64, 64, 64, 64),
        kernel_size: int = 5,
        *,
        num_axes: int,
        grid: Sequence[int] | None = None,
        patch_size: int = 1,
        layer_norm: bool = True,
        residual: bool = False,
        static_channels: int = 0,
    ) -> None:
        super().__init__(
            in_channels,
            hidden_channels,
            kernel_size,
            lambda channels, _: ConvLSTMStack(num_axes, channels, hidden_channels, kernel_size, layer_norm),
            num_axes=num_axes,
            grid=grid,
            patch_size=patch_size,
            residual=residual,
            static_channels=static_channels,
        )
        self.layer_norm = layer_norm
