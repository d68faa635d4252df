"""Memory In Memory, as published, in 1 to 3 dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mim3d.nn.cells import Peephole
from mim3d.nn.conv import ConvNd
from mim3d.nn.forecaster import RecurrentForecaster, check_grid
from mim3d.nn.patching import depth_to_space, space_to_depth
from mim3d.nn.stack import MIMStack, StackState


class MIM(RecurrentForecaster):
    """Memory In Memory (2-D) and 3D-MIM.

    A frame's patches become channels, `MIMStack` takes a step, and a convolution of one voxel turns the top
    layer's hidden state into the next frame. With the defaults the arithmetic is that of the original
    TensorFlow programs.

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
        Voxels along each axis of a frame, before patching; needed where `peephole` is "voxel".
    patch_size
        Voxels along every side of the patches that become channels.
    layer_norm
        Whether every convolution is layer-normalised.
    peephole
        "voxel": a weight per position, as in the papers; "channel": a weight per channel, any grid; "none".
    residual
        Whether the output is the change from frame to frame.
    static_channels
        How many channels, the last ones, are given and not forecast.

    Raises
    ------
    UserError
        If an argument is out of range: unequal hidden channels, a grid not divisible by the patch, ...

    References
    ----------
    Wang et al. 2019, arXiv 1811.07490; Hirashima et al. 2023, arXiv 2302.00026.

    Examples
    --------
    >>> import torch
    >>> network = MIM(1, (8, 8), 3, num_axes=3, grid=(8, 8, 8), patch_size=2)
    >>> network.forecast(torch.zeros(2, 1, 1, 8, 8, 8), steps=4).shape
    torch.Size([2, 4, 1, 8, 8, 8])
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
        peephole: Peephole = "voxel",
        residual: bool = False,
        static_channels: int = 0,
    ) -> None:
        super().__init__(in_channels, num_axes, static_channels, residual)
        coarse = check_grid(grid, num_axes, patch_size, "patch_size")
        self.hidden_channels = tuple(hidden_channels)
        self.kernel_size = kernel_size
        self.grid = None if grid is None else tuple(grid)
        self.patch_size = patch_size
        self.layer_norm = layer_norm
        self.peephole = peephole
        positions = patch_size**num_axes
        self.stack = MIMStack(
            num_axes, positions * in_channels, self.hidden_channels, kernel_size, coarse, layer_norm, peephole
        )
        self.to_frame = ConvNd(num_axes, self.hidden_channels[-1], positions * self.dynamic_channels, 1)

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""
        return {
            "in_channels": self.in_channels,
            "hidden_channels": list(self.hidden_channels),
            "kernel_size": self.kernel_size,
            "num_axes": self.num_axes,
            "grid": None if self.grid is None else list(self.grid),
            "patch_size": self.patch_size,
            "layer_norm": self.layer_norm,
            "peephole": self.peephole,
            "residual": self.residual,
            "static_channels": self.static_channels,
        }

    def step(self, frame: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """Take one step; see `RecurrentForecaster.step`."""
        self._check_frame(frame)
        hidden, new_state = self.stack(space_to_depth(frame, self.patch_size, self.num_axes), state)
        output = depth_to_space(self.to_frame(hidden), self.patch_size, self.num_axes)
        return self._next_frame(frame, output), new_state
