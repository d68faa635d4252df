import math

import pytest
import torch

from mim3d.nn import BlockState, MIMBlock, MIMNCell, MIMSCell, RecurrentState, STLSTMCell


def randoms(*shape: int, count: int):
    return [torch.randn(*shape) for _ in range(count)]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_cells_are_pure(axes):
    shape = (2, 4, *(6, 5, 4)[:axes])
    grid = shape[2:]
    x, h, c, m, s = randoms(*shape, count=5)
    first, difference = STLSTMCell(axes, 4, 4, 3, True), MIMNCell(axes, 4, 4, 3, grid)
    block = MIMBlock(axes, 4, 3, grid)
    for step in (
        lambda: first(x, RecurrentState(h, c), m),
        lambda: difference(x, RecurrentState(h, c)),
        lambda: block(x, BlockState(h, c, s), m, h),
    ):
        before = [tensor.clone() for tensor in (x, h, c, m, s)]
        once, twice = torch.utils._pytree.tree_leaves(step()), torch.utils._pytree.tree_leaves(step())
        assert all(torch.equal(a, b) and a.shape == shape for a, b in zip(once, twice, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(before, (x, h, c, m, s), strict=True))
    for module in (first, difference, block):
        assert not list(module.buffers())


def test_forget_gate_starts_open():
    """With all weights zero the gates are s(0) = 1/2, and the forget gate s(1)."""
    cell = MIMNCell(1, 1, 1, 3, (4,), layer_norm=False, peephole="none")
    for parameter in cell.parameters():
        torch.nn.init.zeros_(parameter)
    output, state = cell(torch.zeros(1, 1, 4), RecurrentState(torch.zeros(1, 1, 4), torch.ones(1, 1, 4)))
    kept = 1 / (1 + math.exp(-1))
    torch.testing.assert_close(state.cell, torch.full((1, 1, 4), kept))
    torch.testing.assert_close(output, torch.full((1, 1, 4), 0.5 * math.tanh(kept)))


def test_output_gate_sees_the_new_cell_state():
    cell = MIMSCell(1, 1, 1, 1, (1,), layer_norm=False, peephole="channel")
    for parameter in cell.parameters():
        torch.nn.init.zeros_(parameter)
    assert cell.output_peephole is not None
    torch.nn.init.constant_(cell.output_peephole, 2.0)
    output, state = cell(torch.zeros(1, 1, 1), RecurrentState(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))
    new = state.cell.item()
    assert output.item() == pytest.approx(math.tanh(new) / (1 + math.exp(-2 * new)))


def test_initial_values_are_the_originals():
    torch.manual_seed(0)
    cell = MIMNCell(3, 8, 8, 5, (6, 5, 4))
    assert cell.from_input.conv.weight.abs().max() <= 1e-3
    assert cell.gate_peephole is not None
    assert cell.output_peephole is not None
    # TensorFlow's glorot rule for a variable [6, 5, 4, 2h]: fans 4 * 30 and 16 * 30.
    bound = math.sqrt(6 / (4 * 30 + 16 * 30))
    assert 0.95 * bound < cell.gate_peephole.abs().max() <= bound
    bound = math.sqrt(6 / (4 * 30 + 8 * 30))
    assert 0.95 * bound < cell.output_peephole.abs().max() <= bound
    block = MIMBlock(3, 8, 5, (6, 5, 4))
    bound = math.sqrt(6 / (8 + 24))
    assert 0.95 * bound < block.from_hidden.conv.weight.abs().max() <= bound
    assert block.from_hidden.norm is not None
    assert (block.from_hidden.norm.weight == 1).all()
    bound = math.sqrt(6 / (16 + 8))
    assert 0.95 * bound < block.reduce.conv.weight.abs().max() <= bound


def test_peepholes():
    assert MIMSCell(2, 4, 4, 3, peephole="none").gate_peephole is None
    channel = MIMSCell(2, 4, 4, 3, peephole="channel").gate_peephole
    assert channel is not None
    assert channel.shape == (8, 1, 1)
    assert not channel.any()
    with pytest.raises(ValueError, match='peephole="voxel" has a weight per position: give grid'):
        MIMSCell(2, 4, 4, 3)
    with pytest.raises(ValueError, match="peephole must be one of voxel, channel, none, found 'pixel'"):
        MIMSCell(2, 4, 4, 3, peephole="pixel")  # type: ignore[arg-type]
