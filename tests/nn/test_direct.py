"""What every network must do that forecasts all frames at once, and what each does in its own way."""

import importlib.util
import sys
import warnings
from typing import Any

import pytest
import torch

from mim3d.errors import UserError
from mim3d.nn import FNO, NETWORKS, DirectForecaster, OriginalAdam, UNet, build

GRIDS = {1: (12,), 2: (8, 12), 3: (8, 4, 12)}
SETTINGS: dict[str, dict[str, Any]] = {
    "unet": {"hidden_channels": (4, 5, 6), "grid": None},
    "fno": {"hidden_channels": 5, "modes": 6, "layers": 2},
}
needs_neuraloperator = pytest.mark.skipif(
    importlib.util.find_spec("neuralop") is None, reason="needs the extra fno"
)
networks = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(name, marks=needs_neuraloperator if name == "fno" else ())
        for name, network in NETWORKS.items()
        if issubclass(network, DirectForecaster)
    ],
)


def make(kind: str, axes: int = 2, **settings) -> Any:
    torch.manual_seed(0)
    common = {
        "in_channels": 3,
        "num_axes": axes,
        "input_length": 2,
        "output_length": 3,
        "static_channels": 1,
    }
    network = build(kind, {**common, **SETTINGS[kind], **settings})
    # The last layer starts near zero, where errors would hide.
    last = network.to_frames if isinstance(network, UNet) else network.operator.projection.fcs[-1]
    torch.nn.init.normal_(last.weight)
    return network


def sequence(axes: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.randn(2, frames, 3, *GRIDS[axes], generator=torch.Generator().manual_seed(1))


@networks
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_all_frames_at_once_and_a_gradient_for_every_parameter(kind, axes):
    network = make(kind, axes)
    outputs = network(sequence(axes), 2)
    assert outputs.shape == (2, 3, 3, *GRIDS[axes])
    outputs[:, :, :2].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_number_of_weights(axes):
    """Two convolutions a stage with scale, shift and bias, one on each way up; 5 channels in, 3 * 2 out."""
    volume = 3**axes

    def stage(before: int, after: int) -> int:
        return volume * after * (before + after) + 6 * after

    expected = stage(5, 4) + stage(4, 5) + stage(5, 6) + stage(5 + 5, 5) + stage(4 + 4, 4) + 6 * (4 + 5) + 6
    expected += 6 * 5 + 5 + 5 * 4 + 4
    assert sum(parameter.numel() for parameter in make("unet", axes).parameters()) == expected


@networks
def test_forecast_is_the_unrolling_and_goes_on_from_itself(kind):
    network = make(kind)
    frames = sequence()
    with torch.no_grad():
        first = network.forecast(frames[:, :2], 3)
        assert torch.equal(first, network(frames, 2))
        assert torch.equal(first, network.forecast(torch.cat((frames[:, 4:], frames[:, :2]), 1), 3))
        assert torch.equal(first[:, :1], network.forecast(frames[:, :2], 1))
        longer = network.forecast(frames[:, :2], 7)
        assert torch.equal(longer[:, :3], first)
        second = network.forecast(first[:, 1:], 3)
        torch.testing.assert_close(longer[:, 3:6], second)
        torch.testing.assert_close(longer[:, 6:], network.forecast(second[:, 1:], 1))


@networks
def test_static_channels_are_carried_and_matter(kind):
    network = make(kind)
    frames = sequence()
    with torch.no_grad():
        forecast = network.forecast(frames[:, :2], 3)
        assert torch.equal(forecast[:, :, 2], frames[:, 1:2, 2].expand(-1, 3, -1, -1))
        frames[:, 1, 2] += 1 + torch.rand(8, 12)
        assert not torch.allclose(network.forecast(frames[:, :2], 3)[:, :, :2], forecast[:, :, :2], atol=1e-6)


@networks
def test_untrained_network_is_persistence_and_residual_adds_the_last_input(kind):
    frames = sequence()
    fresh = build(
        kind, {**SETTINGS[kind], "in_channels": 3, "num_axes": 2, "output_length": 4, "static_channels": 1}
    )
    with torch.no_grad():
        assert (fresh.forecast(frames[:, :1], 4) - frames[:, :1]).abs().max() < 0.1
        direct, residual = make(kind, residual=False), make(kind, residual=True)
        residual.load_state_dict(direct.state_dict())
        change = residual.forecast(frames[:, :2], 3) - direct.forecast(frames[:, :2], 3)
        torch.testing.assert_close(change[:, :, :2], frames[:, 1:2, :2].expand(-1, 3, -1, -1, -1))


@networks
def test_checkpointed_unroll_gives_the_same_gradients_and_keeps_fewer_tensors(kind):
    network = make(kind)
    outputs, gradients, kept = [], [], []
    for checkpoint in (False, True):
        network.zero_grad()
        sizes: list[int] = []

        def count(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            output = network(sequence(), 2, checkpoint=checkpoint)
        output.square().sum().backward()
        outputs.append(output.detach())
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])  # type: ignore[union-attr]
        kept.append(sum(sizes))
    torch.testing.assert_close(outputs[0], outputs[1])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
    assert kept[1] < 0.5 * kept[0]


@networks
def test_autocast_returns_float32(kind):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        forecast = make(kind, 3).forecast(sequence(3)[:, :2], 3)
    assert forecast.dtype == torch.float32
    assert torch.isfinite(forecast).all()


@networks
def test_settings_build_the_same_network(kind):
    network = make(kind, residual=False)
    twin = build(kind, network.settings)
    assert twin.settings == network.settings
    twin.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(sequence(), 2), network(sequence(), 2))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("unet", {"hidden_channels": ()}, "hidden_channels needs one entry a stage"),
        ("unet", {"grid": (8, 14)}, r"grid \(8, 14\) is not divisible by 2\*\*.* = 4: axis 1 has 14 voxels"),
        ("unet", {"input_length": 0}, "input_length must be at least 1, found 0"),
        ("unet", {"output_length": 0}, "output_length must be at least 1, found 0"),
        ("unet", {"static_channels": 3}, "static_channels must be at least 0 and less than in_channels = 3"),
        ("fno", {"output_length": 0}, "output_length must be at least 1, found 0"),
        ("fno", {"hidden_channels": 0}, "hidden_channels must be at least 1, found 0"),
        ("fno", {"modes": 0}, "modes must be at least 1, found 0"),
        ("fno", {"layers": 0}, "layers must be at least 1, found 0"),
        ("fno", {"domain_padding": -0.1}, r"domain_padding must be at least 0, found -0\.1"),
    ],
)
def test_wrong_settings_are_named(kind, change, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **change)


@networks
def test_input_that_does_not_fit_is_named(kind):
    network, frames = make(kind), sequence()
    with pytest.raises(ValueError, match="takes input_length = 2 frames, found 3"):
        network.unroll(frames, 3)
    with pytest.raises(ValueError, match="at least input_length = 2, found 1"):
        network.forecast(frames[:, :1], 3)
    with pytest.raises(ValueError, match=r"fed no true frames on the way: set sampling\.start to 0"):
        network.unroll(frames, 2, keep=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="steps must be at least 1, found 0"):
        network.forecast(frames, 0)
    frames[1, 0, 2, 3, 4] = float("nan")
    with pytest.raises(ValueError, match=r"finite everywhere, found nan at sample 1, frame 0, channel 2"):
        network.forecast(frames[:, :2], 1)


@networks
def test_a_short_training_learns_a_moving_bump(kind):
    """A bump that moves one voxel a frame."""
    start = torch.rand(40, 1, 1, generator=torch.Generator().manual_seed(0)) * 16
    places = torch.arange(16) - start - torch.arange(6)[:, None]
    frames = torch.exp(torch.cos(2 * torch.pi * places / 16) * 4 - 4)[:, :, None]
    torch.manual_seed(0)
    settings = {"unet": {"hidden_channels": (12, 12)}, "fno": {"hidden_channels": 12, "modes": 12}}[kind]
    network = build(
        kind, {**settings, "in_channels": 1, "num_axes": 1, "input_length": 2, "output_length": 4}
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        (network(frames[:32], 2) - frames[:32, 2:]).square().mean().backward()
        optimizer.step()
    test = frames[32:]
    with torch.no_grad():
        error = (network.forecast(test[:, :2], 4) - test[:, 2:]).square().mean()
    assert error < 0.2 * (test[:, 1:2] - test[:, 2:]).square().mean()


def test_unet_needs_a_grid_that_halves():
    with pytest.raises(ValueError, match=r"grid \(8, 10\) is not divisible"):
        make("unet").forecast(torch.zeros(1, 2, 3, 8, 10), 1)


@needs_neuraloperator
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_fno_is_the_librarys_operator_on_frames_and_coordinates(axes):
    from neuralop.models import FNO as Operator

    network = make("fno", axes, residual=False, domain_padding=0.25)
    out = 3 * 2
    operator = Operator((6,) * axes, 5, out, 5, n_layers=2, domain_padding=0.25)
    operator.load_state_dict(network.operator.state_dict())
    frames = sequence(axes)
    image = torch.cat((frames[:, 0, :2], frames[:, 1]), 1)
    with torch.no_grad():
        expected = operator(image).unflatten(1, (3, 2))
        torch.testing.assert_close(network.forecast(frames[:, :2], 3)[:, :, :2], expected)


@needs_neuraloperator
def test_fno_works_on_any_grid_and_padding_parts_opposite_sides():
    frames = torch.zeros(1, 1, 1, 20)
    frames[..., 0] = 1
    far = {}
    for padding in (0.0, 0.5):
        torch.manual_seed(0)
        network = FNO(1, 6, 20, 1, padding, num_axes=1, output_length=1, residual=False)
        torch.nn.init.normal_(network.operator.projection.fcs[-1].weight)
        with torch.no_grad():
            assert network.forecast(torch.rand(1, 1, 1, 5), 2).shape == (1, 2, 1, 5)
            change = network.forecast(frames, 1) - network.forecast(0 * frames, 1)
        far[padding] = change[..., -1].abs().item()
    assert far[0.0] != pytest.approx(far[0.5], rel=0.1)


@needs_neuraloperator
def test_a_network_of_complex_weights_is_stored_as_tensors_alone_and_trains_with_either_adam():
    network = make("fno", 1)
    assert any(tensor.is_complex() for tensor in network.state_dict().values())
    assert {name for name, _ in network.named_parameters()} == set(network.state_dict())
    wrapped = torch.nn.ModuleDict({"network": network})
    assert all(isinstance(value, torch.Tensor) for value in wrapped.state_dict().values())
    frames, losses = sequence(1), []
    optimizer = OriginalAdam(network.parameters(), 1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        loss = (network(frames, 2) - frames[:, 2:])[:, :, :2].square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@needs_neuraloperator
def test_importing_the_library_leaves_the_shown_warnings_alone():
    before = list(warnings.filters)
    for name in [name for name in sys.modules if name.split(".")[0] == "neuralop"]:
        del sys.modules[name]
    FNO(1, 2, 2, 1, num_axes=1)
    assert list(warnings.filters) == before


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralop.models", None)
    with pytest.raises(UserError, match=r"neuraloperator is not installed: pip install 'mim3d\[fno\]'"):
        FNO(1, num_axes=2)


def guide_to(frames: torch.Tensor, length: int = 3) -> torch.Tensor:
    return torch.randn(2, length, 2, *frames.shape[3:], generator=torch.Generator().manual_seed(2))


@networks
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_an_untrained_guided_network_is_its_guide(kind, axes):
    frames = sequence(axes)
    guide = guide_to(frames, 4)
    settings = {**SETTINGS[kind], "in_channels": 3, "num_axes": axes, "output_length": 4}
    fresh = build(kind, {**settings, "static_channels": 1, "guided": True})
    with torch.no_grad():
        forecast = fresh.forecast(frames[:, :1], 4, guide=guide)
    assert (forecast[:, :, :2] - guide).abs().max() < 0.1
    assert torch.equal(forecast[:, :, 2], frames[:, :1, 2].expand(-1, 4, *frames.shape[3:]))


@networks
def test_a_guide_is_seen_frame_by_frame(kind):
    network, frames = make(kind, guided=True), sequence()
    guide = guide_to(frames, 6)
    assert (network.guide_length(1), network.guide_length(3), network.guide_length(4)) == (3, 3, 6)
    with torch.no_grad():
        first = network.forecast(frames[:, :2], 3, guide=guide)
        assert torch.equal(first, network(frames, 2, guide=guide))
        assert torch.equal(first[:, :1], network.forecast(frames[:, :2], 1, guide=guide))
        longer = network.forecast(frames[:, :2], 6, guide=guide)
        assert torch.equal(longer[:, :3], first)
        later = network.forecast(first[:, 1:], 3, guide=guide[:, 3:])
        torch.testing.assert_close(longer[:, 3:], later)
        # The output is the guide's error, so what is added to the guide's own frame comes back but for that.
        other = guide.clone()
        other[:, 1, 0] += 1
        moved = network.forecast(frames[:, :2], 3, guide=other) - first
        assert moved[:, :, :2].abs().amax((0, 2, 3, 4)).min() > 1e-3


@networks
def test_a_guide_that_does_not_fit_is_named(kind):
    network, frames = make(kind, guided=True), sequence()
    with pytest.raises(UserError, match="a guide to the frames that it forecasts is missing"):
        network.forecast(frames[:, :2], 1)
    with pytest.raises(
        UserError, match=r"to 4 frames must have shape \(2, 6, 2, 8, 12\), found \(2, 5, 2, 8"
    ):
        network.forecast(frames[:, :2], 4, guide=guide_to(frames, 5))
    with pytest.raises(UserError, match=r"must have shape \(2, 3, 2, 8, 12\), found \(2, 3, 2, 8, 11\)"):
        network.unroll(frames, 2, guide=guide_to(frames)[..., 1:])
    with pytest.raises(UserError, match="not guided: leave the guide out"):
        make(kind).forecast(frames[:, :2], 3, guide=guide_to(frames))


def test_a_guide_joins_a_network_as_half_of_the_mean():
    alone = make("unet")
    guided = make("unet", guided=True)
    guided.load_state_dict(guided.weights_from(alone, [0, 1, 2]))
    frames = sequence()
    guide = guide_to(frames)
    with torch.no_grad():
        forecast = guided.forecast(frames[:, :2], 3, guide=guide)[:, :, :2]
        mean = (guide + alone.forecast(frames[:, :2], 3)[:, :, :2]) / 2
    torch.testing.assert_close(forecast, mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guided", [False, True])
def test_channels_that_are_left_out_count_for_nothing(guided):
    torch.manual_seed(0)
    many = {"num_axes": 2, "input_length": 2, "output_length": 3, "hidden_channels": (4, 5), "guided": guided}
    large = UNet(6, static_channels=2, **many)
    torch.nn.init.normal_(large.to_frames.weight)
    small = UNet(3, static_channels=1, **many)
    # Of density, two others and affected, and two given ones: affected, density and the second given one.
    kept = [3, 0, 5]
    small.load_state_dict(small.weights_from(large, kept))
    frames, guide = torch.randn(2, 2, 6, 8, 12), torch.randn(2, 3, 4, 8, 12)
    left_out = [1, 2, 4]
    frames[:, :, left_out] = 0
    guide[:, :, 1:3] = 0
    ahead = {"guide": guide} if guided else {}
    with torch.no_grad():
        expected = large.forecast(frames, 3, **ahead)[:, :, kept]
        ahead = {"guide": guide[:, :, kept[:2]]} if guided else {}
        found = small.forecast(frames[:, :, kept], 3, **ahead)
    torch.testing.assert_close(found, expected)
