"""Several frames in a step: which frames go where."""

import pytest
import torch

from mim3d.errors import UserError
from mim3d.nn import BundledMIM, MultiscaleMIM

GRIDS = {1: (16,), 2: (8, 12), 3: (8, 4, 12)}


def make(axes: int = 2, **settings) -> BundledMIM:
    torch.manual_seed(0)
    network = BundledMIM(
        **{
            "in_channels": 3,
            "frames_per_step": 3,
            "hidden_channels": (4, 4),
            "num_axes": axes,
            "grid": GRIDS[axes],
            "encoder_channels": (4, 5),
            "static_channels": 1,
            **settings,
        }
    )
    # The last layer starts near zero, where errors would hide.
    torch.nn.init.normal_(network.core.to_frame.weight, std=0.3)
    return network


def sequence(axes: int = 2, frames: int = 9) -> torch.Tensor:
    made = torch.randn(2, frames, 3, *GRIDS[axes], generator=torch.Generator().manual_seed(1))
    made[:, :, 2] = made[:, :1, 2]
    return made


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("input_length", "known"), [(1, 0), (3, 0), (4, 3), (6, 3), (7, 6)])
def test_every_frame_after_the_first_bundle_is_forecast(axes, input_length, known):
    network, frames = make(axes), sequence(axes)
    outputs = network(frames, input_length)
    assert outputs.shape == (2, 9 - input_length + known, 3, *GRIDS[axes])
    outputs[:, :, :2].square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    with torch.no_grad():
        future = network.forecast(frames[:, :input_length], 9 - input_length)
        torch.testing.assert_close(outputs[:, known:], future)


def test_a_step_is_the_core_s_on_frames_as_channels():
    network, frames = make(), sequence()
    core = MultiscaleMIM(
        7, (4, 4), num_axes=2, grid=(8, 12), encoder_channels=(4, 5), static_channels=1, residual=False
    )
    core.load_state_dict(network.core.state_dict())
    with torch.no_grad():
        static = frames[:, 0, 2:]
        state = None
        for first in (0, 3):
            bundle = torch.cat([frames[:, first + k, :2] for k in range(3)] + [static], 1)
            output, state = core.step(bundle, state)
        forecast = network.forecast(frames[:, :6], 3)
        for k in range(3):
            expected = output[:, 2 * k : 2 * k + 2] + frames[:, 5, :2]
            torch.testing.assert_close(forecast[:, k, :2], expected)
            assert torch.equal(forecast[:, k, 2:], static)


def test_the_first_frame_stands_for_those_before_it():
    network, frames = make(), sequence()
    with torch.no_grad():
        twice = torch.cat((frames[:, :1], frames[:, :2]), 1)
        assert torch.equal(network.forecast(frames[:, :2], 4), network.forecast(twice, 4))


def test_one_frame_a_step_is_the_multiscale_network():
    network, frames = make(frames_per_step=1), sequence()
    core = MultiscaleMIM(3, (4, 4), num_axes=2, grid=(8, 12), encoder_channels=(4, 5), static_channels=1)
    core.load_state_dict(network.core.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network(frames, 2), core(frames, 2))


def test_limits_hold_for_what_the_next_bundle_is_made_from():
    network, frames = make(), sequence()
    limits = torch.tensor([[-0.1, -0.2, -9.0], [0.1, 0.2, 9.0]])
    with torch.no_grad():
        forecast = network.forecast(frames[:, :3], 7, limits)
        assert forecast[:, :, 0].abs().max() <= 0.1
        assert forecast[:, :, 1].abs().max() <= 0.2
        free = network.forecast(frames[:, :3], 7)
        assert not torch.allclose(free[:, 3:].clamp(-0.1, 0.1)[:, :, 0], forecast[:, 3:, 0])


def test_gradient_checkpointing_changes_nothing():
    network, frames = make(), sequence()
    gradients = []
    for checkpoint in (False, True):
        network.zero_grad()
        network(frames, 3, checkpoint=checkpoint).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_an_untrained_network_is_persistence():
    torch.manual_seed(0)
    network = BundledMIM(1, 4, num_axes=2, grid=(8, 8))
    frame = torch.randn(1, 1, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            network.forecast(frame, 6), frame.expand(-1, 6, -1, -1, -1), atol=0.2, rtol=0
        )


def test_true_frames_on_the_way_and_empty_bundles_are_refused():
    with pytest.raises(UserError, match=r"sampling\.start to 0"):
        make()(sequence(), 3, torch.ones(2, 5))
    with pytest.raises(UserError, match="frames_per_step must be at least 1, found 0"):
        make(frames_per_step=0)
