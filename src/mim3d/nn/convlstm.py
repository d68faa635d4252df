"""ConvLSTM, the network that Memory In Memory is measured against first."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from mim3d.nn.cells import ConvLSTMCell, RecurrentState, hidden_zeros
from mim3d.nn.layered import LayeredForecaster, LayeredStack
from mim3d.nn.network import run


class ConvLSTMStack(LayeredStack):
    """`LayeredStack` of `ConvLSTMCell` without peepholes."""

    _cell = staticmethod(partial(ConvLSTMCell, peephole="none"))

    def forward(
        self, x: Tensor, state: tuple[RecurrentState, ...] | None = None, checkpoint: bool = False
    ) -> tuple[Tensor, tuple[RecurrentState, ...]]:
        """Take one step; see `MIMStack.forward`. The state has one entry a layer."""
        if state is None:
            state = tuple(
                layer.initial_state(hidden_zeros(x, hidden))  # type: ignore[operator]
                for layer, hidden in zip(self.layers, self.hidden_channels, strict=True)
            )
        new: list[RecurrentState] = []
        for layer, before in zip(self.layers, state, strict=True):
            x, after = run(checkpoint, layer, x, before)
            new.append(after)
        return x, tuple(new)


class ConvLSTM(LayeredForecaster):
    """Layers of convolutional LSTMs, without peepholes.

    Arguments are those of `LayeredForecaster`.

    References
    ----------
    Shi et al. 2015, arXiv 1506.04214.
    """

    _stack = ConvLSTMStack
