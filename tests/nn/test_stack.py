import pytest
import torch

from mim3d.nn import CausalMIMStack, MIMStack


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


def fill(module, value: float) -> None:
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, value)


def unroll(stack, frames):
    state, outputs = None, []
    for frame in frames:
        hidden, state = stack(frame, state)
        outputs.append(hidden)
    return torch.stack(outputs)


@pytest.mark.parametrize(("kind", "per_block"), [(MIMStack, 34), (CausalMIMStack, 46)])
def test_number_of_parameters_without_a_module(kind, per_block):
    """MIM-N and MIM-S are ten variables each; without MIM-S the forget gate has its h channels back."""

    def count(**settings) -> tuple[int, int]:
        stack = kind(2, 1, (4, 4, 4), 3, (4, 4), **settings)
        return len(list(stack.parameters())), sum(p.numel() for p in stack.parameters())

    whole, size = count()
    without_n, size_without_n = count(ablation="without-mim-n")
    without_s, size_without_s = count(ablation="without-mim-s")
    convolution = 4 * 16 * 9 + 16
    module = 2 * (convolution + 2 * 16) + 3 * 4 * 16
    assert whole - without_n == whole - without_s == 2 * 10
    assert size - size_without_n == 2 * module
    # W_h of f, and what the input's convolution gives to it: 4 to 4 channels, bias, scale and shift.
    forget = 4 * 4 * 9 + 4 + 2 * 4
    inputs = 1 if kind is CausalMIMStack else 0
    assert size - size_without_s == 2 * (module - (1 + inputs) * forget)


@pytest.mark.parametrize("kind", [MIMStack, CausalMIMStack])
def test_without_mim_n_the_blocks_see_the_change_of_the_layer_below(kind):
    torch.manual_seed(0)
    stack = kind(2, 1, (4, 4, 4), 3, peephole="channel", ablation="without-mim-n")
    seen: list[list[torch.Tensor]] = [[], []]
    hidden: list[list[torch.Tensor]] = [[], [], []]
    for layer, block in enumerate(stack.blocks):
        block.register_forward_pre_hook(lambda _, given, layer=layer: seen[layer].append(given[3]))
        block.register_forward_hook(lambda _, __, out, layer=layer: hidden[layer + 1].append(out[0].hidden))
    stack.first.register_forward_hook(lambda _, __, out: hidden[0].append(out[0].hidden))
    unroll(stack, torch.randn(3, 2, 1, 6, 5))
    for layer in range(2):
        assert not seen[layer][0].any()
        for t in (1, 2):
            change = hidden[layer][t] - hidden[layer][t - 1]
            assert change.any()
            torch.testing.assert_close(seen[layer][t], change)


@pytest.mark.parametrize("kind", [MIMStack, CausalMIMStack])
def test_without_mim_s_and_with_mim_n_silent_nothing_is_left_but_the_lstm(kind):
    """MIM-N of zero weights gives zeros: the layers then are plain cells, each fed by the one below."""
    torch.manual_seed(0)
    stack = kind(1, 2, (4, 4, 4), 3, peephole="channel", ablation="without-mim-s")
    frames = torch.randn(4, 2, 2, 6)
    speaking = unroll(stack, frames)
    fill(stack.differences, 0.0)
    silent = unroll(stack, frames)
    assert torch.equal(silent[0], speaking[0])
    assert not torch.allclose(silent[1:], speaking[1:])
    cells = [stack.first, *stack.blocks]
    zeros = torch.zeros(2, 4, 6)
    states, memory = [cell.initial_state(zeros) for cell in cells], zeros
    for t, frame in enumerate(frames):
        hidden = frame
        for layer, cell in enumerate(cells):
            states[layer], memory = cell(hidden, states[layer], memory)
            hidden = states[layer].hidden
        torch.testing.assert_close(hidden, silent[t])


def test_unknown_ablations_are_named():
    with pytest.raises(
        ValueError, match="ablation must be one of none, without-mim-n, without-mim-s, found 'n'"
    ):
        MIMStack(2, 1, (4, 4), 3, peephole="none", ablation="n")  # type: ignore[arg-type]
