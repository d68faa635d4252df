import math

import pytest
import torch

from mim3d.nn import BlockState, CausalLSTMCell, CausalMIMBlock, MIMSCell, RecurrentState


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def one_voxel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1), value, dtype=torch.float64)


def give_weights(cell: torch.nn.Module) -> dict[str, list[float]]:
    """Set every weight to a number of its own and return them by convolution."""
    weights, number = {}, 0
    for name, module in cell.named_modules():
        if isinstance(weight := getattr(module, "weight", None), torch.Tensor):
            values = [0.1 * math.sin(1 + number + k) for k in range(weight.numel())]
            number += len(values)
            weight.data = torch.tensor(values, dtype=torch.float64).reshape(weight.shape)
            weights[name.removesuffix(".conv")] = values
    return weights


def cascade(
    w: dict[str, list[float]], x_gates: list[float], o: float, c: float, m: float
) -> tuple[float, float]:
    """Memory and hidden state from the new cell state, gate by gate."""
    i_c, g_c, f_c, o_c = (value * c for value in w["cascade.from_cell"])
    i_m, f_m, old = (value * m for value in w["cascade.from_memory"])
    i_x, g_x, f_x = x_gates
    m = sigmoid(f_x + f_c + f_m + 1) * math.tanh(old) + sigmoid(i_x + i_c + i_m) * math.tanh(g_x + g_c)
    o = math.tanh(o + o_c + w["cascade.to_output"][0] * m)
    reduce = w["cascade.reduce"]
    return m, o * math.tanh(reduce[0] * c + reduce[1] * m)


def test_causal_lstm_by_hand():
    """One voxel, one channel, kernels of one: every convolution is a product."""
    cell = CausalLSTMCell(1, 1, 1, 1, layer_norm=False).double()
    w = give_weights(cell)
    x, h, c, m = 0.8, -0.4, 0.9, -1.3
    state, memory = cell(one_voxel(x), RecurrentState(one_voxel(h), one_voxel(c)), one_voxel(m))
    i_x, g_x, f_x, o_x, *x_gates = (value * x for value in w["from_input"])
    i_h, g_h, f_h, o_h = (value * h for value in w["from_hidden"])
    new = sigmoid(f_x + f_h + 1) * c + sigmoid(i_x + i_h) * math.tanh(g_x + g_h)
    expected_memory, expected_hidden = cascade(w, x_gates, o_x + o_h, new, m)
    assert state.cell.item() == pytest.approx(new, rel=1e-12)
    assert memory.item() == pytest.approx(expected_memory, rel=1e-12)
    assert state.hidden.item() == pytest.approx(expected_hidden, rel=1e-12)
    moved, _ = cell(
        one_voxel(x), RecurrentState(one_voxel(h), one_voxel(c)), one_voxel(m), difference=one_voxel(0.5)
    )
    assert moved.cell.item() == pytest.approx(new + 0.5, rel=1e-12)


def test_causal_mim_block_by_hand():
    block = CausalMIMBlock(1, 1, 1, layer_norm=False, peephole="none").double()
    w = give_weights(block)
    x, d, h, c, s, m = 0.8, 0.35, -0.4, 0.9, 0.6, -1.3
    state, memory = block(
        one_voxel(x), BlockState(one_voxel(h), one_voxel(c), one_voxel(s)), one_voxel(m), one_voxel(d)
    )
    i_x, g_x, o_x, *x_gates = (value * x for value in w["from_input"])
    i_h, g_h, o_h = (value * h for value in w["from_hidden"])
    i_s, g_s, f_s, o_s = (
        u * d + v * c for u, v in zip(w["stationary.from_input"], w["stationary.from_hidden"], strict=True)
    )
    stationary = sigmoid(f_s + 1) * s + sigmoid(i_s) * math.tanh(g_s)
    new = sigmoid(o_s) * math.tanh(stationary) + sigmoid(i_x + i_h) * math.tanh(g_x + g_h)
    expected_memory, expected_hidden = cascade(w, x_gates, o_x + o_h, new, m)
    assert state.stationary.item() == pytest.approx(stationary, rel=1e-12)
    assert state.cell.item() == pytest.approx(new, rel=1e-12)
    assert memory.item() == pytest.approx(expected_memory, rel=1e-12)
    assert state.hidden.item() == pytest.approx(expected_hidden, rel=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_number_of_weights(axes):
    """Cell: 7 gates of x, 4 of h, 4 of c, 3 of m, one to o; block: one gate less of x and of h."""
    x, hidden, kernel = 3, 4, 3
    volume = kernel**axes
    cell = CausalLSTMCell(axes, x, hidden, kernel, layer_norm=True)
    reduce = 2 * hidden * hidden + hidden
    gates = 7 + 4 + 4 + 3 + 1
    expected = volume * hidden * (7 * x + 12 * hidden) + 3 * gates * hidden + reduce
    assert sum(p.numel() for p in cell.parameters()) == expected
    block = CausalMIMBlock(axes, hidden, kernel, peephole="channel")
    mim_s = sum(p.numel() for p in MIMSCell(axes, hidden, hidden, kernel, peephole="channel").parameters())
    expected = volume * hidden * hidden * (6 + 3 + 4 + 3 + 1) + 3 * 17 * hidden + reduce + mim_s
    assert sum(p.numel() for p in block.parameters()) == expected


def test_cells_are_pure():
    x, h, c, m, s = (torch.randn(2, 4, 5, 6) for _ in range(5))
    cell, block = CausalLSTMCell(2, 4, 4, 3, True), CausalMIMBlock(2, 4, 3, peephole="channel")
    for step in (lambda: cell(x, RecurrentState(h, c), m), lambda: block(x, BlockState(h, c, s), m, s)):
        once, twice = torch.utils._pytree.tree_leaves(step()), torch.utils._pytree.tree_leaves(step())
        assert all(torch.equal(a, b) and a.shape == x.shape for a, b in zip(once, twice, strict=True))
