"""Networks of plain layers of cells, to compare Memory In Memory with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn

from mim3d.nn.patched import PatchedForecaster
from mim3d.nn.stack import checked_channels


class LayeredStack(nn.Module):
    """Layers of one kind of cell, each fed by the hidden state of the one below.

    A subclass says which cell, and whether one memory passes through all layers.

    Parameters
    ----------
    num_axes
        Axes of space, 1 to 3.
    in_channels
        Channels of the input.
    hidden_channels
        One entry a layer, all equal where one memory passes through.
    kernel_size
        Voxels along every axis of the kernels.
    layer_norm
        Whether every convolution is layer-normalised.

    Raises
    ------
    UserError
        If `hidden_channels` is empty, or unequal where it must not be.
    """

    _cell: ClassVar[Any]
    _one_memory: ClassVar[bool] = False

    def __init__(
        self,
        num_axes: int,
        in_channels: int,
        hidden_channels: Sequence[int],
        kernel_size: int,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_channels = checked_channels(hidden_channels, self._one_memory)
        self.layers = nn.ModuleList(
            self._cell(num_axes, below, hidden, kernel_size, layer_norm=layer_norm)
            for below, hidden in pairwise((in_channels, *self.hidden_channels))
        )


class LayeredForecaster(PatchedForecaster):
    """A `PatchedForecaster` over a `LayeredStack`, which a subclass names.

    Parameters
    ----------
    in_channels, kernel_size, num_axes, patch_size, layer_norm, residual, static_channels
        As in `MIM`.
    hidden_channels
        As in `LayeredStack`.
    grid
        Voxels along each axis of a frame, before patching, to be checked; any grid works.

    Raises
    ------
    UserError
        If an argument is out of range.
    """

    _stack: ClassVar[type[LayeredStack]]

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
            lambda channels, _: self._stack(num_axes, channels, hidden_channels, kernel_size, layer_norm),
            num_axes=num_axes,
            grid=grid,
            patch_size=patch_size,
            residual=residual,
            static_channels=static_channels,
        )
        self.layer_norm = layer_norm
