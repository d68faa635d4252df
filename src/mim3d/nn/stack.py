"""The recurrent core: layers of cells, without the way in and out of the grid of the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from mim3d.errors import UserError
from mim3d.nn.cells import (
    BlockState,
    MIMBlock,
    MIMNCell,
    Peephole,
    RecurrentState,
    STLSTMCell,
    hidden_zeros,
)
from mim3d.nn.network import run

Ablation = Literal["none", "without-mim-n", "without-mim-s"]


class StackState(NamedTuple):
    """All that a stack remembers between steps.

    `first` is the state of the ST-LSTM, `blocks` and `differences` those of the MIM blocks and of the MIM-N
    below each, `memory` the spatiotemporal memory of the top layer. Without MIM-N `differences` is empty,
    without MIM-S a block has an LSTM's state.
    """

    first: RecurrentState
    blocks: tuple[BlockState | RecurrentState, ...]
    differences: tuple[RecurrentState, ...]
    memory: Tensor


class MIMStack(nn.Module):
    """An ST-LSTM and MIM blocks above it, with a MIM-N between each pair of layers.

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
    grid
        Voxels along each axis; needed where `peephole` is "voxel", else any grid works.
    layer_norm
        Whether every convolution is layer-normalised.
    peephole
        "voxel" (the papers'), "channel" or "none"; see `ConvLSTMCell`.
    ablation
        "none"; "without-mim-n": each block receives the plain difference of consecutive hidden states of the
        layer below; "without-mim-s": each block is a spatiotemporal LSTM, with its own forget gate, whose
        new cell state the output of the MIM-N is added to.

    Raises
    ------
    UserError
        If `hidden_channels` is empty or unequal, `grid` is missing or has the wrong number of axes, or there
        is no such ablation.

    References
    ----------
    Wang et al. 2019, arXiv 1811.07490, fig. 3.
    """

    _cell: ClassVar[Any] = STLSTMCell
    _block: ClassVar[Any] = MIMBlock

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
        super().__init__()
        self.hidden_channels = checked_channels(hidden_channels, one_memory=True)
        self.grid = None if grid is None else tuple(grid)
        if self.grid is not None and len(self.grid) != num_axes:
            raise UserError(f"grid must have num_axes = {num_axes} entries, found {self.grid}")
        if ablation not in get_args(Ablation):
            raise UserError(f"ablation must be one of {', '.join(get_args(Ablation))}, found {ablation!r}")
        self.peephole = peephole
        hidden = self.hidden_channels[0]
        above = range(len(self.hidden_channels) - 1)
        self.first = self._cell(num_axes, in_channels, hidden, kernel_size, layer_norm)
        self.differences = nn.ModuleList(
            MIMNCell(num_axes, hidden, hidden, kernel_size, self.grid, layer_norm, peephole)
            for _ in above
            if ablation != "without-mim-n"
        )
        self.blocks = nn.ModuleList(
            self._cell(num_axes, hidden, hidden, kernel_size, layer_norm)
            if ablation == "without-mim-s"
            else self._block(num_axes, hidden, kernel_size, self.grid, layer_norm, peephole)
            for _ in above
        )

    def initial_state(self, x: Tensor) -> StackState:
        """Zeros for the batch, grid, device and precision of `x` `(B, C, *space)`."""
        zeros = hidden_zeros(x, self.hidden_channels[0])
        blocks, differences = (
            tuple(cell.initial_state(zeros) for cell in cells)  # type: ignore[operator]
            for cells in (self.blocks, self.differences)
        )
        return StackState(self.first.initial_state(zeros), blocks, differences, zeros)

    def forward(
        self, x: Tensor, state: StackState | None = None, checkpoint: bool = False
    ) -> tuple[Tensor, StackState]:
        """Take one step.

        Parameters
        ----------
        x
            Input `(B, in_channels, *space)`.
        state
            What the step before returned; None at the first step, where there is no difference of hidden
            states yet: MIM-N rests and the blocks receive zeros.
        checkpoint
            Keep the inputs of every cell alone, and compute the rest again for the gradient.

        Returns
        -------
        tuple of Tensor and StackState
            Hidden state of the top layer `(B, hidden, *space)`, and the new state.

        Raises
        ------
        UserError
            If the grid is not the one that per-voxel peepholes were made for.
        """
        if self.peephole == "voxel" and tuple(x.shape[2:]) != self.grid:
            raise UserError(
                f"the network has peepholes per voxel on a grid of {self.grid}, the input is on "
                f'{tuple(x.shape[2:])}; a network with peephole="channel" works on any grid'
            )
        is_first = state is None
        if state is None:
            state = self.initial_state(x)
        first, memory = run(checkpoint, self.first, x, state.first, state.memory)
        hidden, before = first.hidden, state.first.hidden
        difference = torch.zeros_like(hidden) if is_first else hidden - before
        blocks: list[BlockState | RecurrentState] = []
        differences = list(state.differences)
        for layer, (block, block_state) in enumerate(zip(self.blocks, state.blocks, strict=True)):
            if not is_first:
                if self.differences:
                    difference, differences[layer] = run(
                        checkpoint, self.differences[layer], difference, differences[layer]
                    )
                else:
                    difference = hidden - before
            before = block_state.hidden
            block_state, memory = run(checkpoint, block, hidden, block_state, memory, difference)
            hidden = block_state.hidden
            blocks.append(block_state)
        return hidden, StackState(first, tuple(blocks), tuple(differences), memory)


def checked_channels(hidden_channels: Sequence[int], one_memory: bool) -> tuple[int, ...]:
    """Return the hidden channels of the layers.

    Raises
    ------
    UserError
        If there are none, or they are not equal although one memory passes through all layers.
    """
    if not hidden_channels:
        raise UserError("hidden_channels needs one entry a layer, found none")
    if one_memory and len(set(hidden_channels)) > 1:
        raise UserError(
            "hidden_channels must all be equal, because one memory passes through all layers, "
            f"found {tuple(hidden_channels)}"
        )
    return tuple(hidden_channels)
