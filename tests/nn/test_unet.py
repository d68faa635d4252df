import pytest
import torch

from mim3d.nn import UNet, build

GRIDS = {1: (12,), 2: (8, 12), 3: (8, 4, 12)}


def make(axes: int = 2, **settings) -> UNet:
    torch.manual_seed(0)
    network = UNet(
        **{
            "in_channels": 3,
            "hidden_channels": (4, 5, 6),
            "num_axes": axes,
            "grid": GRIDS[axes],
            "input_length": 2,
            "output_length": 3,
            "static_channels": 1,
            **settings,
        }
    )
    # The last layer starts near zero, where errors would hide.
    torch.nn.init.normal_(network.to_frames.weight)
    return network


def sequence(axes: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.randn(2, frames, 3, *GRIDS[axes], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_all_frames_at_once_and_a_gradient_for_every_parameter(axes):
    network = make(axes)
    outputs = network(sequence(axes), 2)
    assert outputs.shape == (2, 3, 3, *GRIDS[axes])
    outputs[:, :, :2].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_number_of_weights(axes):
    """Two convolutions a stage with scale, shift and bias; 2 * 2 + 1 channels in, 3 * 2 out."""
    volume = 3**axes

    def stage(before: int, after: int) -> int:
        return volume * after * (before + after) + 6 * after

    expected = stage(5, 4) + stage(4, 5) + stage(5, 6) + stage(6 + 5, 5) + stage(5 + 4, 4) + 6 * 4 + 6
    assert sum(parameter.numel() for parameter in make(axes).parameters()) == expected


def test_forecast_is_the_unrolling_and_goes_on_from_itself():
    network = make()
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


def test_static_channels_are_carried_and_matter():
    network = make()
    frames = sequence()
    with torch.no_grad():
        forecast = network.forecast(frames[:, :2], 3)
        assert torch.equal(forecast[:, :, 2], frames[:, 1:2, 2].expand(-1, 3, -1, -1))
        frames[:, 1, 2] += 1 + torch.rand(8, 12)
        assert not torch.allclose(network.forecast(frames[:, :2], 3)[:, :, :2], forecast[:, :, :2], atol=1e-6)


def test_untrained_network_is_persistence_and_residual_adds_the_last_input():
    frames = sequence()
    fresh = UNet(3, (4, 5), num_axes=2, output_length=4, static_channels=1)
    with torch.no_grad():
        assert (fresh.forecast(frames[:, :1], 4) - frames[:, :1]).abs().max() < 0.1
        direct, residual = make(residual=False), make(residual=True)
        residual.load_state_dict(direct.state_dict())
        change = residual.forecast(frames[:, :2], 3) - direct.forecast(frames[:, :2], 3)
        torch.testing.assert_close(change[:, :, :2], frames[:, 1:2, :2].expand(-1, 3, -1, -1, -1))


def test_checkpointed_unroll_gives_the_same_gradients_and_keeps_fewer_tensors():
    network = make()
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


def test_autocast_returns_float32():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        forecast = make(3).forecast(sequence(3)[:, :2], 3)
    assert forecast.dtype == torch.float32
    assert torch.isfinite(forecast).all()


def test_settings_build_the_same_network():
    network = make(layer_norm=False)
    twin = build("unet", network.settings)
    assert twin.settings == network.settings
    twin.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(sequence(), 2), network(sequence(), 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_channels": ()}, "hidden_channels needs one entry a stage"),
        ({"grid": (8, 14)}, r"grid \(8, 14\) is not divisible by 2\*\*.* = 4: axis 1 has 14 voxels"),
        ({"input_length": 0}, "input_length must be at least 1, found 0"),
        ({"output_length": 0}, "output_length must be at least 1, found 0"),
        ({"static_channels": 3}, "static_channels must be at least 0 and less than in_channels = 3"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


def test_input_that_does_not_fit_is_named():
    network, frames = make(), sequence()
    with pytest.raises(ValueError, match="takes input_length = 2 frames, found 3"):
        network.unroll(frames, 3)
    with pytest.raises(ValueError, match="at least input_length = 2, found 1"):
        network.forecast(frames[:, :1], 3)
    with pytest.raises(ValueError, match=r"true frames cannot be fed .* set sampling\.start to 0"):
        network.unroll(frames, 2, keep=torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"grid \(8, 10\) is not divisible"):
        network.forecast(torch.zeros(1, 2, 3, 8, 10), 1)
    with pytest.raises(ValueError, match="steps must be at least 1, found 0"):
        network.forecast(frames, 0)
    frames[1, 0, 2, 3, 4] = float("nan")
    with pytest.raises(ValueError, match=r"finite everywhere, found nan at sample 1, frame 0, channel 2"):
        network.forecast(frames[:, :2], 1)


def test_a_short_training_learns_a_moving_bump():
    """A bump that moves one voxel a frame."""
    start = torch.rand(40, 1, 1, generator=torch.Generator().manual_seed(0)) * 16
    places = torch.arange(16) - start - torch.arange(6)[:, None]
    frames = torch.exp(torch.cos(2 * torch.pi * places / 16) * 4 - 4)[:, :, None]
    torch.manual_seed(0)
    network = UNet(1, (12, 12), num_axes=1, input_length=2, output_length=4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        (network(frames[:32], 2) - frames[:32, 2:]).square().mean().backward()
        optimizer.step()
    test = frames[32:]
    with torch.no_grad():
        error = (network.forecast(test[:, :2], 4) - test[:, 2:]).square().mean()
    assert error < 0.2 * (test[:, 1:2] - test[:, 2:]).square().mean()
