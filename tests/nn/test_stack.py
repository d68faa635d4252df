import pytest
import torch

from mim3d.nn import MIMStack


def test_number_of_parameters_is_the_originals():
    """16 + 34 (L - 1) variables with layer norm and 10 + 20 (L - 1) without, the output's two included."""
    for layers in (1, 2, 3, 4):
        norm = MIMStack(2, 1, (4,) * layers, 3, (4, 4))
        plain = MIMStack(2, 1, (4,) * layers, 3, (4, 4), layer_norm=False)
        assert len(list(norm.parameters())) == 14 + 34 * (layers - 1)
        assert len(list(plain.parameters())) == 8 + 20 * (layers - 1)


def test_share_of_voxel_peepholes_in_3d_mim():
    """Of 3D-MIM's weights (64 channels, 4 layers, 5^3), peepholes are 45 % at 32^3, 87 % at 64^3."""
    for voxels, share in ((32, 0.453), (64, 0.869)):
        with torch.device("meta"):
            stack = MIMStack(3, 1, (64,) * 4, 5, (voxels,) * 3)
        peepholes = sum(p.numel() for name, p in stack.named_parameters() if "peephole" in name)
        assert peepholes / sum(p.numel() for p in stack.parameters()) == pytest.approx(share, abs=0.001)


def test_first_step_leaves_the_differences_at_rest():
    stack = MIMStack(2, 1, (4, 4, 4), 3, peephole="channel")
    x = torch.randn(2, 1, 6, 5)
    _, state = stack(x)
    assert not any(tensor.any() for difference in state.differences for tensor in difference)
    _, state = stack(x, state)
    assert all(difference.cell.any() for difference in state.differences)


def test_states_are_float32_under_autocast():
    for layer_norm in (True, False):
        stack = MIMStack(3, 2, (4, 4), 3, layer_norm=layer_norm, peephole="channel")
        with torch.autocast("cpu", torch.bfloat16):
            hidden, state = stack(torch.randn(1, 2, 4, 4, 4))
            hidden, state = stack(torch.randn(1, 2, 4, 4, 4), state)
        tensors = torch.utils._pytree.tree_leaves((hidden, state))
        assert {tensor.dtype for tensor in tensors} == {torch.float32}


@pytest.mark.parametrize(
    ("hidden", "grid", "message"),
    [
        ((), (4, 4), "hidden_channels needs one entry a layer, found none"),
        ((4, 4, 5), (4, 4), r"hidden_channels must all be equal, .* found \(4, 4, 5\)"),
        ((4, 4), (4, 4, 4), r"grid must have num_axes = 2 entries, found \(4, 4, 4\)"),
    ],
)
def test_wrong_arguments_are_named(hidden, grid, message):
    with pytest.raises(ValueError, match=message):
        MIMStack(2, 1, hidden, 3, grid)


def test_voxel_peepholes_fix_the_grid():
    stack = MIMStack(2, 1, (4, 4), 3, (4, 6))
    with pytest.raises(
        ValueError, match=r"peepholes per voxel on a grid of \(4, 6\), the input is on \(6, 4\)"
    ):
        stack(torch.zeros(1, 1, 6, 4))
