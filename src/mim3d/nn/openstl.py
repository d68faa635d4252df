"""MIM as OpenSTL has it, so that networks trained there can be used.

References
----------
Wang et al. 2017, "PredRNN", NeurIPS 30 (the first layer); Tan et al. 2023, "OpenSTL", arXiv 2306.11249.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.errors import UserError
from mim3d.nn.cells import Peephole, RecurrentCell, RecurrentState, remember
from mim3d.nn.conv import ConvNorm
from mim3d.nn.mim import MIM
from mim3d.nn.norm import TensorLayerNorm
from mim3d.nn.precision import full_precision
from mim3d.nn.stack import Ablation, MIMStack


class SeparateGatesSTLSTMCell(RecurrentCell):
    """Spatiotemporal LSTM of PredRNN: the memory has input gates of its own.

    The input gives i, g, f to the cell state and others to the memory, where `STLSTMCell` shares them, and
    the output gate sees the new cell state and memory in place of the old memory.

    Parameters
    ----------
    num_axes, in_channels, hidden_channels, kernel_size, layer_norm
        As in `STLSTMCell`.
    """

    def __init__(
        self, num_axes: int, in_channels: int, hidden_channels: int, kernel_size: int, layer_norm: bool
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.from_input = ConvNorm(num_axes, in_channels, 7 * hidden, kernel_size, layer_norm)
        self.from_hidden = ConvNorm(num_axes, hidden, 4 * hidden, kernel_size, layer_norm)
        self.from_memory = ConvNorm(num_axes, hidden, 3 * hidden, kernel_size, layer_norm)
        self.to_output = ConvNorm(num_axes, 2 * hidden, hidden, kernel_size, layer_norm)
        self.reduce = ConvNorm(num_axes, 2 * hidden, hidden, 1, layer_norm=False)

    def forward(
        self, x: Tensor, state: RecurrentState, memory: Tensor, difference: Tensor | None = None
    ) -> tuple[RecurrentState, Tensor]:
        """Take one step; see `STLSTMCell.forward`."""
        i_x, g_x, f_x, i_y, g_y, f_y, o_x = self.from_input(x).chunk(7, 1)
        i_h, g_h, f_h, o_h = self.from_hidden(state.hidden).chunk(4, 1)
        i_m, g_m, f_m = self.from_memory(memory).chunk(3, 1)
        cell = remember(i_x + i_h, g_x + g_h, f_x + f_h, state.cell)
        if difference is not None:
            cell = cell + difference
        memory = remember(i_y + i_m, g_y + g_m, f_y + f_m, memory)
        both = torch.cat((cell, memory), 1)
        hidden = torch.sigmoid(o_x + o_h + self.to_output(both)) * torch.tanh(self.reduce(both))
        return RecurrentState(hidden, cell), memory


class VoxelLayerNorm(TensorLayerNorm):
    """Layer normalisation over channels and space together; scale and shift per channel and voxel.

    Parameters
    ----------
    channels
        Number of channels.
    grid
        Voxels along each axis.
    """

    def __init__(self, channels: int, grid: tuple[int, ...]) -> None:
        super().__init__(len(grid), channels)
        self.weight = nn.Parameter(torch.ones(channels, *grid))
        self.bias = nn.Parameter(torch.zeros(channels, *grid))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, channels, *grid)`."""
        with torch.autocast(x.device.type, enabled=False):
            return functional.layer_norm(
                full_precision(x), self.weight.shape, self.weight, self.bias, self.eps
            )


class OpenSTLMIMStack(MIMStack):
    """`MIMStack` with the first layer and the layer normalisation of OpenSTL.

    Parameters
    ----------
    num_axes, in_channels, hidden_channels, kernel_size, grid, layer_norm, peephole, ablation
        As in `MIMStack`; `layer_norm` needs `grid`, too.
    """

    _cell = SeparateGatesSTLSTMCell

    def __init__(
        self,
        num_axes: int,
        in_channels: int,
        hidden_channels: Sequence[int],
        kernel_size: int,
        grid: Sequence[int] | None = None,
        layer_norm: bool = True,
        peephole: Peephole = "voxel",
        ablation: Ablation = "none",
    ) -> None:
        super().__init__(
            num_axes, in_channels, hidden_channels, kernel_size, grid, layer_norm, peephole, ablation
        )
        if not layer_norm:
            return
        if self.grid is None:
            raise UserError("layer_norm has a weight per voxel here: give grid, the voxels along each axis")
        for module in self.modules():
            if isinstance(module, ConvNorm) and module.norm is not None:
                module.norm = VoxelLayerNorm(len(module.norm.weight), self.grid)


class OpenSTLMIM(MIM):
    """MIM with OpenSTL's arithmetic, which its checkpoints need; for everything else take `MIM`.

    Arguments are those of `MIM`. It differs in the first layer, `SeparateGatesSTLSTMCell`, and in layer
    normalisation, which has a scale and a shift per channel and voxel.
    """

    _stack = OpenSTLMIMStack
