import pytest
import torch

from mim3d.nn import MIM, ConvLSTM, ConvLSTMStack, PredRNN, PredRNNStack, RecurrentState, STLSTMCell, build

GRIDS = {1: (12,), 2: (8, 12), 3: (8, 4, 12)}
baselines = pytest.mark.parametrize("kind", ["convlstm", "predrnn"])


def weights(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_number_of_weights(axes):
    """Four gates: of x and h in ConvLSTM; of x, h and m in PredRNN, and a convolution of [c, m]."""
    x, hidden, volume = 3, 4, 3**axes
    norm_and_bias = 3 * 4 * hidden
    convlstm = ConvLSTMStack(axes, x, (hidden, hidden), 3)
    first = 4 * hidden * volume * (x + hidden) + 2 * norm_and_bias
    second = 4 * hidden * volume * (hidden + hidden) + 2 * norm_and_bias
    assert weights(convlstm) == first + second
    predrnn = PredRNNStack(axes, x, (hidden, hidden), 3)
    memory = 4 * hidden * volume * hidden + norm_and_bias + 2 * hidden * hidden + hidden
    assert weights(predrnn) == first + second + 2 * memory


def test_predrnn_of_one_layer_is_mim_of_one_layer():
    torch.manual_seed(0)
    settings = {"in_channels": 2, "hidden_channels": (5,), "kernel_size": 3, "num_axes": 2, "patch_size": 2}
    mim, predrnn = MIM(**settings, peephole="none"), PredRNN(**settings)
    names = {name.replace("stack.first.", "stack.layers.0."): p for name, p in mim.state_dict().items()}
    predrnn.load_state_dict(names)
    frames = torch.randn(2, 5, 2, 8, 6)
    with torch.no_grad():
        assert torch.equal(mim(frames, 2), predrnn(frames, 2))


def test_predrnn_is_mim_without_mim_s_where_mim_n_is_silent():
    torch.manual_seed(0)
    settings = {"in_channels": 1, "hidden_channels": (4, 4, 4), "kernel_size": 3, "num_axes": 1}
    mim = MIM(**settings, peephole="channel", ablation="without-mim-s")
    for parameter in mim.stack.differences.parameters():
        torch.nn.init.zeros_(parameter)
    predrnn = PredRNN(**settings)
    cells = ["stack.first.", "stack.blocks.0.", "stack.blocks.1."]
    state = {}
    for name, value in mim.state_dict().items():
        for layer, cell in enumerate(cells):
            name = name.replace(cell, f"stack.layers.{layer}.")
        if "differences" not in name:
            state[name] = value
    predrnn.load_state_dict(state)
    frames = torch.randn(2, 5, 1, 9)
    with torch.no_grad():
        torch.testing.assert_close(mim(frames, 2), predrnn(frames, 2))


def test_convlstm_is_predrnn_that_forgets_its_memory():
    """Without the gates of m and with W_1x1 = [1, 0] the hidden state is that of an LSTM: o . tanh(c)."""
    torch.manual_seed(0)
    lstm = ConvLSTMStack(1, 2, (3,), 3, layer_norm=False)
    cell = STLSTMCell(1, 2, 3, 3, layer_norm=False)
    with torch.no_grad():
        for name in ("from_input", "from_hidden"):
            getattr(cell, name).load_state_dict(getattr(lstm.layers[0], name).state_dict())
        for parameter in (*cell.from_memory.parameters(), *cell.reduce.parameters()):
            parameter.zero_()
        cell.reduce.conv.weight[:, :3, 0] = torch.eye(3)
        state, memory, lstm_state = (
            RecurrentState(torch.zeros(2, 3, 7), torch.zeros(2, 3, 7)),
            torch.zeros(2, 3, 7),
            None,
        )
        for frame in torch.randn(4, 2, 2, 7):
            state, memory = cell(frame, state, memory)
            hidden, lstm_state = lstm(frame, lstm_state)
            torch.testing.assert_close(hidden, state.hidden)
    assert memory.any()


def test_layers_of_convlstm_may_differ():
    network = ConvLSTM(1, (3, 5), 3, num_axes=2)
    assert network.forecast(torch.randn(1, 2, 1, 6, 7), 3).shape == (1, 3, 1, 6, 7)
    with pytest.raises(ValueError, match=r"hidden_channels must all be equal, .* found \(3, 5\)"):
        PredRNN(1, (3, 5), 3, num_axes=2)


@baselines
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_channels": ()}, "hidden_channels needs one entry a layer"),
        ({"grid": (8, 13)}, r"grid \(8, 13\) is not divisible by patch_size.*: axis 1 has 13 voxels"),
        ({"patch_size": 0}, "patch_size.* must be at least 1, found 0"),
        ({"static_channels": 1}, "static_channels must be at least 0 and less than in_channels = 1, found 1"),
        ({"num_axes": 4}, "num_axes must be 1, 2 or 3, found 4"),
    ],
)
def test_wrong_settings_are_named(kind, change, message):
    with pytest.raises(ValueError, match=message):
        build(kind, {"in_channels": 1, "num_axes": 2, "hidden_channels": (4, 4), "patch_size": 2} | change)


@baselines
def test_any_grid_works(kind):
    network = build(kind, {"in_channels": 1, "num_axes": 2, "hidden_channels": (4, 4), "kernel_size": 3})
    for grid in ((4, 8), (5, 3)):
        assert network.forecast(torch.randn(1, 1, 1, *grid), 2).shape == (1, 2, 1, *grid)
