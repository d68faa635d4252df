"""The recurrent cells of Memory In Memory: pure functions of input and state.

No cell keeps a tensor of the sequence; the loop over time belongs to the caller. All convolutions give
their gates in the order i (input), g (candidate), f (forget), o (output), as the original programs do, and
every forget gate has 1 added before the sigmoid.

References
----------
Wang et al. 2019, "Memory In Memory", arXiv 1811.07490 (MIM block, MIM-N, MIM-S);
Wang et al. 2017, "PredRNN", the spatiotemporal LSTM; Hirashima et al. 2023, arXiv 2302.00026 (3-D).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from mim3d.errors import UserError
from mim3d.nn.conv import ConvNorm
from mim3d.nn.precision import full_precision

Peephole = Literal["voxel", "channel", "none"]

FORGET_BIAS = 1.0
DIFFERENCE_WEIGHT_BOUND = 1e-3


class RecurrentState(NamedTuple):
    """State of an LSTM: both `(B, hidden, *space)`."""

    hidden: Tensor
    cell: Tensor


class BlockState(NamedTuple):
    """State of a MIM block: all `(B, hidden, *space)`.

    `stationary` is the cell state of the MIM-S inside the block (S in the paper).
    """

    hidden: Tensor
    cell: Tensor
    stationary: Tensor


class RecurrentCell(nn.Module):
    """What all cells share: how their state starts."""

    _state: ClassVar[Any] = RecurrentState

    def initial_state(self, zeros: Tensor) -> Any:
        """State before the first step, given zeros `(B, hidden, *space)`."""
        return self._state(*[zeros] * len(self._state._fields))


class STLSTMCell(RecurrentCell):
    """Spatiotemporal LSTM: an LSTM with a second memory that travels through the layers.

    Parameters
    ----------
    num_axes
        Axes of space.
    in_channels
        Channels of the input.
    hidden_channels
        Channels of hidden state, cell state and memory.
    kernel_size
        Voxels along every axis of the kernels.
    layer_norm
        Whether every convolution is layer-normalised.
    """

    def __init__(
        self, num_axes: int, in_channels: int, hidden_channels: int, kernel_size: int, layer_norm: bool
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.from_input = ConvNorm(num_axes, in_channels, 4 * hidden, kernel_size, layer_norm)
        self.from_hidden = ConvNorm(num_axes, hidden, 4 * hidden, kernel_size, layer_norm)
        self.from_memory = ConvNorm(num_axes, hidden, 4 * hidden, kernel_size, layer_norm)
        self.reduce = ConvNorm(num_axes, 2 * hidden, hidden, 1, layer_norm=False)

    def forward(
        self, x: Tensor, state: RecurrentState, memory: Tensor, difference: Tensor | None = None
    ) -> tuple[RecurrentState, Tensor]:
        """Take one step.

        Parameters
        ----------
        x
            Input `(B, in_channels, *space)`.
        state
            Hidden and cell state of this layer at the step before.
        memory
            Memory of the layer below `(B, hidden, *space)`, for the first layer that of the last at the step
            before.
        difference
            Added to the new cell state `(B, hidden, *space)`: the output of a MIM-N, where MIM-S is left out.

        Returns
        -------
        tuple of RecurrentState and Tensor
            The new state (its `hidden` is the output) and the memory for the next layer.
        """
        i_x, g_x, f_x, o_x = self.from_input(x).chunk(4, 1)
        i_h, g_h, f_h, o_h = self.from_hidden(state.hidden).chunk(4, 1)
        i_m, g_m, f_m, o_m = self.from_memory(memory).chunk(4, 1)
        cell = remember(i_x + i_h, g_x + g_h, f_x + f_h, state.cell)
        if difference is not None:
            cell = cell + difference
        memory = remember(i_x + i_m, g_x + g_m, f_x + f_m, memory)
        hidden = torch.sigmoid(o_x + o_h + o_m) * torch.tanh(self.reduce(torch.cat((cell, memory), 1)))
        return RecurrentState(hidden, cell), memory


class ConvLSTMCell(RecurrentCell):
    """Convolutional LSTM, with peepholes or without: the recurrence that MIM-N and MIM-S share.

    Parameters
    ----------
    num_axes
        Axes of space.
    in_channels
        Channels of the input.
    hidden_channels
        Channels of hidden and cell state.
    kernel_size
        Voxels along every axis of the kernels.
    grid
        Voxels along each axis; needed where `peephole` is "voxel".
    layer_norm
        Whether every convolution is layer-normalised.
    peephole
        "voxel": a weight per position, as in the papers; "channel": a weight per channel, which works on any
        grid and starts at zero; "none".

    References
    ----------
    Shi et al. 2015, arXiv 1506.04214, eq. 3.
    """

    _bound: ClassVar[float | None] = None

    def __init__(
        self,
        num_axes: int,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int,
        grid: tuple[int, ...] | None = None,
        layer_norm: bool = True,
        peephole: Peephole = "voxel",
    ) -> None:
        super().__init__()
        gates = 4 * hidden_channels
        self.from_input = ConvNorm(num_axes, in_channels, gates, kernel_size, layer_norm, self._bound)
        self.from_hidden = ConvNorm(num_axes, hidden_channels, gates, kernel_size, layer_norm, self._bound)
        self.gate_peephole = _peephole(num_axes, 2 * hidden_channels, grid, peephole)
        self.output_peephole = _peephole(num_axes, hidden_channels, grid, peephole)

    def forward(self, x: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Take one step.

        Parameters
        ----------
        x
            Input `(B, in_channels, *space)`.
        state
            Hidden and cell state.

        Returns
        -------
        tuple of Tensor and RecurrentState
            The output, and the new state (whose `hidden` is the output).
        """
        i_x, g_x, f_x, o_x = self.from_input(x).chunk(4, 1)
        i_h, g_h, f_h, o_h = self.from_hidden(state.hidden).chunk(4, 1)
        i, g, f, o = i_x + i_h, g_x + g_h, f_x + f_h, o_x + o_h
        if self.gate_peephole is not None:
            i_c, f_c = self.gate_peephole.chunk(2)
            i, f = i + i_c * state.cell, f + f_c * state.cell
        cell = remember(i, g, f, state.cell)
        if self.output_peephole is not None:
            o = o + self.output_peephole * cell
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        return hidden, RecurrentState(hidden, cell)


class MIMSCell(ConvLSTMCell):
    """MIM-S: mixes the modelled difference into the stationary part (arXiv 1811.07490).

    Inside a MIM block the block's cell state plays the hidden state.
    """


class MIMNCell(ConvLSTMCell):
    """MIM-N: models how the difference of consecutive hidden states changes (arXiv 1811.07490).

    Its weights start small.
    """

    _bound = DIFFERENCE_WEIGHT_BOUND


class MIMBlock(RecurrentCell):
    """MIM block: a spatiotemporal LSTM whose forget gate is a MIM-S (arXiv 1811.07490).

    Parameters
    ----------
    num_axes, hidden_channels, kernel_size, grid, layer_norm, peephole
        As in `ConvLSTMCell`.
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
        self.from_input = ConvNorm(num_axes, hidden, 4 * hidden, kernel_size, layer_norm)
        self.from_hidden = ConvNorm(num_axes, hidden, 3 * hidden, kernel_size, layer_norm)
        self.from_memory = ConvNorm(num_axes, hidden, 4 * hidden, kernel_size, layer_norm)
        self.stationary = MIMSCell(num_axes, hidden, hidden, kernel_size, grid, layer_norm, peephole)
        self.reduce = ConvNorm(num_axes, 2 * hidden, hidden, 1, layer_norm=False)

    def forward(
        self, x: Tensor, state: BlockState, memory: Tensor, difference: Tensor
    ) -> tuple[BlockState, Tensor]:
        """Take one step.

        Parameters
        ----------
        x
            Hidden state of the layer below `(B, hidden, *space)`.
        state
            State of this block at the step before.
        memory
            Memory from the layer below `(B, hidden, *space)`.
        difference
            Output of the MIM-N below `(B, hidden, *space)`; zeros at the first step.

        Returns
        -------
        tuple of BlockState and Tensor
            The new state (its `hidden` is the output) and the memory for the next layer.
        """
        i_x, g_x, f_x, o_x = self.from_input(x).chunk(4, 1)
        i_h, g_h, o_h = self.from_hidden(state.hidden).chunk(3, 1)
        i_m, g_m, f_m, o_m = self.from_memory(memory).chunk(4, 1)
        trend, (_, stationary) = self.stationary(difference, RecurrentState(state.cell, state.stationary))
        cell = trend + torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)
        memory = remember(i_x + i_m, g_x + g_m, f_x + f_m, memory)
        hidden = torch.sigmoid(o_x + o_h + o_m) * torch.tanh(self.reduce(torch.cat((cell, memory), 1)))
        return BlockState(hidden, cell, stationary), memory


def hidden_zeros(x: Tensor, hidden_channels: int) -> Tensor:
    """Zeros `(B, hidden_channels, *space)` for an input `(B, C, *space)`, not in half precision."""
    return full_precision(x.new_zeros(x.shape[0], hidden_channels, *x.shape[2:]))


def remember(i: Tensor, g: Tensor, f: Tensor, old: Tensor) -> Tensor:
    """LSTM update of a memory from gates before their nonlinearity, with 1 added to the forget gate."""
    return torch.sigmoid(f + FORGET_BIAS) * old + torch.sigmoid(i) * torch.tanh(g)


def _peephole(
    num_axes: int, channels: int, grid: tuple[int, ...] | None, peephole: Peephole
) -> nn.Parameter | None:
    if peephole not in get_args(Peephole):
        raise UserError(f"peephole must be one of {', '.join(get_args(Peephole))}, found {peephole!r}")
    if peephole == "none":
        return None
    if peephole == "channel":
        return nn.Parameter(torch.zeros(channels, *(1,) * num_axes))
    if grid is None:
        raise UserError('peephole="voxel" has a weight per position: give grid, the voxels along each axis')
    # TensorFlow's default initialisation of a variable (*grid, channels), which takes all axes but the last
    # two for a kernel's.
    volume = math.prod(grid[:-1])
    bound = math.sqrt(6 / (volume * (grid[-1] + channels)))
    return nn.Parameter(torch.empty(channels, *grid).uniform_(-bound, bound))
