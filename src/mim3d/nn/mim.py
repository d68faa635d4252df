"""Memory In Memory, as published, in 1 to 3 dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mim3d.nn.cells import Peephole
from mim3d.nn.patched import PatchedForecaster
from mim3d.nn.stack import Ablation, MIMStack


class MIM(PatchedForecaster):
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
    ablation
        "none"; "without-mim-n" or "without-mim-s" leave one of the two modules out, see `MIMStack`.

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

    _stack: ClassVar[type[MIMStack]] = MIMStack

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
        ablation: Ablation = "none",
    ) -> None:
        super().__init__(
            in_channels,
            hidden_channels,
            kernel_size,
            lambda channels, patches: self._stack(
                num_axes, channels, hidden_channels, kernel_size, patches, layer_norm, peephole, ablation
            ),
            num_axes=num_axes,
            grid=grid,
            patch_size=patch_size,
            residual=residual,
            static_channels=static_channels,
        )
        self.layer_norm = layer_norm
        self.peephole = peephole
        self.ablation = ablation
