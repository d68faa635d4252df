"""Causal LSTM, and Memory In Memory over it: the MIM* of the paper.

The cell state is updated first and then drives the update of the spatiotemporal memory, one after the other
where the spatiotemporal LSTM does both side by side. The gates are those of the authors' programs. Beside
them, eq. 2 of arXiv 1804.06300 feeds the old cell state to the gates of the cell state, the memory to its
candidate, and leaves the hidden state out of the output gate.

References
----------
Wang et al. 2018, "PredRNN++", arXiv 1804.06300, eq. 2; Wang et al. 2019, arXiv 1811.07490 (MIM*).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mim3d.nn.cells import BlockState, MIMSCell, Peephole, RecurrentCell, RecurrentState, remember
from mim3d.nn.conv import ConvNorm
from mim3d.nn.mim import MIM
from mim3d.nn.stack import MIMStack


class _CascadedMemory(nn.Module):
    """The second half of a causal LSTM: the new cell state updates the memory, both make the hidden state."""

    def __init__(self, num_axes: int, hidden_channels: int, kernel_size: int, layer_norm: bool) -> None:
        super().__init__()
        hidden = hidden_channels
        self.from_cell = ConvNorm(num_axes, hidden, 4 * hidden, kernel_size, layer_norm)
        self.from_memory = ConvNorm(num_axes, hidden, 3 * hidden, kernel_size, layer_norm)
        self.to_output = ConvNorm(num_axes, hidden, hidden, kernel_size, layer_norm)
        self.reduce = ConvNorm(num_axes, 2 * hidden, hidden, 1, layer_norm=False)

    def forward(
        self, from_input: Tensor, output: Tensor, cell: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give the hidden state and the new memory.

        `from_input` holds what the input gives to the gates i', g', f', `output` what input and hidden state
        give to the output gate.
        """
        i_x, g_x, f_x = from_input.chunk(3, 1)
        i_c, g_c, f_c, o_c = self.from_cell(cell).chunk(4, 1)
        i_m, f_m, old = self.from_memory(memory).chunk(3, 1)
        memory = remember(i_c + i_x + i_m, g_c + g_x, f_c + f_x + f_m, torch.tanh(old))
        gate = torch.tanh(output + o_c + self.to_output(memory))
        return gate * torch.tanh(self.reduce(torch.cat((cell, memory), 1))), memory


class CausalLSTMCell(RecurrentCell):
    """Causal LSTM (arXiv 1804.06300): an LSTM whose new cell state updates a second memory.

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
        self.cascade = _CascadedMemory(num_axes, hidden, kernel_size, layer_norm)

    def forward(
        self, x: Tensor, state: RecurrentState, memory: Tensor, difference: Tensor | None = None
    ) -> tuple[RecurrentState, Tensor]:
        """Take one step; see `STLSTMCell.forward`."""
        i_x, g_x, f_x, o_x, *to_memory = self.from_input(x).chunk(7, 1)
        i_h, g_h, f_h, o_h = self.from_hidden(state.hidden).chunk(4, 1)
        cell = remember(i_x + i_h, g_x + g_h, f_x + f_h, state.cell)
        if difference is not None:
            cell = cell + difference
        hidden, memory = self.cascade(torch.cat(to_memory, 1), o_x + o_h, cell, memory)
        return RecurrentState(hidden, cell), memory


class CausalMIMBlock(RecurrentCell):
    """MIM block over a causal LSTM, whose forget gate is a MIM-S.

    Parameters
    ----------
    num_axes, hidden_channels, kernel_size, grid, layer_norm, peephole
        As in `MIMBlock`.
    """

    _state = BlockState

    def __init__(
        self,
        num_axes: int,
        hidden_channels: int,
        kernel_size: int,
        grid: tuple[int, ...] | None = None,
        layer_norm: bool = True,
        peephole: Peephole = "voxel",
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.from_input = ConvNorm(num_axes, hidden, 6 * hidden, kernel_size, layer_norm)
        self.from_hidden = ConvNorm(num_axes, hidden, 3 * hidden, kernel_size, layer_norm)
        self.stationary = MIMSCell(num_axes, hidden, hidden, kernel_size, grid, layer_norm, peephole)
        self.cascade = _CascadedMemory(num_axes, hidden, kernel_size, layer_norm)

    def forward(
        self, x: Tensor, state: BlockState, memory: Tensor, difference: Tensor
    ) -> tuple[BlockState, Tensor]:
        """Take one step; see `MIMBlock.forward`."""
        i_x, g_x, o_x, *to_memory = self.from_input(x).chunk(6, 1)
        i_h, g_h, o_h = self.from_hidden(state.hidden).chunk(3, 1)
        trend, (_, stationary) = self.stationary(difference, RecurrentState(state.cell, state.stationary))
        cell = trend + torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)
        hidden, memory = self.cascade(torch.cat(to_memory, 1), o_x + o_h, cell, memory)
        return BlockState(hidden, cell, stationary), memory


class CausalMIMStack(MIMStack):
    """`MIMStack` of causal LSTMs and of MIM blocks over them."""

    _cell = CausalLSTMCell
    _block = CausalMIMBlock


class MIMStar(MIM):
    """MIM*: Memory In Memory whose layers are causal LSTMs in place of spatiotemporal LSTMs.

    Arguments are those of `MIM`. The gradient highway of PredRNN++ is not part of it.

    References
    ----------
    Wang et al. 2019, arXiv 1811.07490; Wang et al. 2018, arXiv 1804.06300.
    """

    _stack = CausalMIMStack
