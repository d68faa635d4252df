"""PredRNN: spatiotemporal LSTMs alone, what Memory In Memory is without its memories in memory."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mim3d.nn.cells import RecurrentState, STLSTMCell, hidden_zeros
from mim3d.nn.layered import LayeredForecaster, LayeredStack
from mim3d.nn.network import run


class PredRNNState(NamedTuple):
    """State of every layer, and the spatiotemporal memory of the top layer."""

    layers: tuple[RecurrentState, ...]
    memory: Tensor


class PredRNNStack(LayeredStack):
    """`LayeredStack` of `STLSTMCell`: one memory zigzags through all layers, so their channels are equal."""

    _cell = STLSTMCell
    _one_memory = True

    def forward(
        self, x: Tensor, state: PredRNNState | None = None, checkpoint: bool = False
    ) -> tuple[Tensor, PredRNNState]:
        """Take one step; see `MIMStack.forward`."""
        if state is None:
            zeros = hidden_zeros(x, self.hidden_channels[0])
            state = PredRNNState(tuple(layer.initial_state(zeros) for layer in self.layers), zeros)  # type: ignore[operator]
        memory = state.memory
        new: list[RecurrentState] = []
        for layer, before in zip(self.layers, state.layers, strict=True):
            after, memory = run(checkpoint, layer, x, before, memory)
            x = after.hidden
            new.append(after)
        return x, PredRNNState(tuple(new), memory)


class PredRNN(LayeredForecaster):
    """Layers of spatiotemporal LSTMs, all of the same number of hidden channels.

    Arguments are those of `LayeredForecaster`.

    References
    ----------
    Wang et al. 2017, "PredRNN", NeurIPS 30.
    """

    _stack = PredRNNStack
