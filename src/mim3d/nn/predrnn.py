"""PredRNN: spatiotemporal LSTMs alone, what Memory In Memory is without its memories in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from mim3d.nn.cells import RecurrentState, STLSTMCell
from mim3d.nn.patched import PatchedForecaster
from mim3d.nn.precision import full_precision
from mim3d.nn.stack import equal_channels


class PredRNNState(NamedTuple):
    """State of every layer, and the spatiotemporal memory of the top layer."""

    layers: tuple[RecurrentState, ...]
    memory: Tensor


class PredRNNStack(nn.Module):
    """Layers of `STLSTMCell`, through which one memory zigzags.

    Parameters
    ----------
    num_axes
        Axes of space, 1 to 3.
    in_channels
        Channels of the input.
    hidden_channels
        One entry a layer, all equal: the memory passes through every layer.
    kernel_size
        Voxels along every axis of the kernels.
    layer_norm
        Whether every convolution is layer-normalised.

    Raises
    ------
    UserError
        If `hidden_channels` is empty or unequal.
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
        self.hidden_channels = equal_channels(hidden_channels)
        self.layers = nn.ModuleList(
            STLSTMCell(num_axes, below, hidden, kernel_size, layer_norm)
            for below, hidden in pairwise((in_channels, *self.hidden_channels))
        )

    def forward(self, x: Tensor, state: PredRNNState | None = None) -> tuple[Tensor, PredRNNState]:
        """Take one step; see `MIMStack.forward`."""
        if state is None:
            zeros = full_precision(x.new_zeros(x.shape[0], self.hidden_channels[0], *x.shape[2:]))
            state = PredRNNState(tuple(RecurrentState(zeros, zeros) for _ in self.layers), zeros)
        memory = state.memory
        new: list[RecurrentState] = []
        for layer, before in zip(self.layers, state.layers, strict=True):
            after, memory = layer(x, before, memory)
            x = after.hidden
            new.append(after)
        return x, PredRNNState(tuple(new), memory)


class PredRNN(PatchedForecaster):
    """Layers of spatiotemporal LSTMs.

    A frame's patches become channels, the layers take a step, and a convolution of one voxel turns the top
    layer's hidden state into the next frame, as in `MIM`.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Hidden channels, one entry a layer, all equal.
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
    Wang et al. 2017, "PredRNN", NeurIPS 30.
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
            lambda channels, _: PredRNNStack(num_axes, channels, hidden_channels, kernel_size, layer_norm),
            num_axes=num_axes,
            grid=grid,
            patch_size=patch_size,
            residual=residual,
            static_channels=static_channels,
        )
        self.layer_norm = layer_norm
