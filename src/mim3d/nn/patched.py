"""Recurrent networks that work on patches of the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from mim3d.nn.conv import ConvNd
from mim3d.nn.forecaster import RecurrentForecaster
from mim3d.nn.network import check_grid
from mim3d.nn.patching import depth_to_space, space_to_depth


class PatchedForecaster(RecurrentForecaster):
    """A frame's patches become channels, a stack of cells takes a step, one convolution makes the next frame.

    Parameters
    ----------
    in_channels, hidden_channels, kernel_size, num_axes, grid, patch_size, residual, static_channels
        As in `MIM`.
    make_stack
        Makes the stack of cells, given the channels of its input and the grid of patches: a module
        `(x, state, checkpoint) -> (hidden state of the top layer, state)`.

    Raises
    ------
    UserError
        If an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int],
        kernel_size: int,
        make_stack: Callable[[int, tuple[int, ...] | None], nn.Module],
        *,
        num_axes: int,
        grid: Sequence[int] | None,
        patch_size: int,
        residual: bool,
        static_channels: int,
    ) -> None:
        super().__init__(in_channels, num_axes, static_channels, residual)
        coarse = check_grid(grid, num_axes, patch_size, "patch_size")
        self.hidden_channels = tuple(hidden_channels)
        self.kernel_size = kernel_size
        self.grid = None if grid is None else tuple(grid)
        self.patch_size = patch_size
        positions = patch_size**num_axes
        self.stack = make_stack(positions * in_channels, coarse)
        self.to_frame = ConvNd(num_axes, self.hidden_channels[-1], positions * self.dynamic_channels, 1)

    def step(self, frame: Tensor, state: Any = None, checkpoint: bool = False) -> tuple[Tensor, Any]:
        """Take one step; see `RecurrentForecaster.step`."""
        self._check_frame(frame)
        patches = space_to_depth(frame, self.patch_size, self.num_axes)
        hidden, new_state = self.stack(patches, state, checkpoint)
        output = depth_to_space(self.to_frame(hidden), self.patch_size, self.num_axes)
        return self._next_frame(frame, output), new_state
