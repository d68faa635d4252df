"""What every network must do, whatever is inside."""

import inspect
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from mim3d.nn import MIM, NETWORKS, MultiscaleMIM, RecurrentForecaster, build
from mim3d.nn.network import run

GRIDS = {1: (12,), 2: (8, 12), 3: (8, 4, 12)}


def make(kind: str, axes: int = 2, channels: int = 2, **settings) -> Any:
    torch.manual_seed(0)
    taken = inspect.signature(NETWORKS[kind]).parameters
    defaults = {"grid": GRIDS[axes], "patch_size": 2, "peephole": "voxel", "encoder_channels": (4, 6)}
    settings = {name: value for name, value in defaults.items() if name in taken} | settings
    given = {"in_channels": channels, "hidden_channels": (6, 6, 6), "kernel_size": 3, "num_axes": axes}
    return build(kind, given | settings)


def sequence(
    axes: int = 2, batch: int = 2, frames: int = 5, channels: int = 2, seed: int = 1
) -> torch.Tensor:
    return torch.randn(batch, frames, channels, *GRIDS[axes], generator=torch.Generator().manual_seed(seed))


RECURRENT = [name for name, network in NETWORKS.items() if issubclass(network, RecurrentForecaster)]
networks = pytest.mark.parametrize("kind", RECURRENT)
ablatable = pytest.mark.parametrize("kind", ["mim", "mim-star", "multiscale-mim"])


@networks
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_parameter_gets_a_gradient(kind, axes):
    network = make(kind, axes)
    # Three frames reach all; but what looks at MIM-N's states finds zeros there, and has a gradient of zero.
    for length in (3, 4):
        network.zero_grad()
        network(sequence(axes, frames=length), 1).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0 or length == 3, name


@ablatable
@pytest.mark.parametrize("ablation", ["without-mim-n", "without-mim-s"])
def test_ablations_train_and_are_restored(kind, ablation):
    network = make(kind, ablation=ablation)
    network(sequence(frames=4), 1).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    twin = build(kind, network.settings)
    assert twin.settings["ablation"] == ablation
    twin.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(sequence(), 2), network(sequence(), 2))
        whole = make(kind)(sequence(), 2)
        assert whole.shape == network(sequence(), 2).shape


@ablatable
def test_unknown_ablations_are_named(kind):
    with pytest.raises(ValueError, match=r"ablation must be one of none, without-mim-n, .* found 'mim-n'"):
        make(kind, ablation="mim-n")


@networks
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_batch_any_horizon_any_number_of_input_frames(kind, axes):
    network = make(kind, axes).double()
    frames = sequence(axes, batch=3).double()
    with torch.no_grad():
        whole = network.forecast(frames[:, :2], 7)
        assert whole.shape == (3, 7, 2, *GRIDS[axes])
        for sample in range(3):
            alone = network.forecast(frames[sample : sample + 1, :2], 3)
            torch.testing.assert_close(alone[0], whole[sample, :3])
        assert network.forecast(frames[:0, :2], 2).shape == (0, 2, 2, *GRIDS[axes])
        assert network.forecast(frames, 1).shape == (3, 1, 2, *GRIDS[axes])


@networks
def test_same_input_twice_gives_the_same_output(kind):
    network = make(kind)
    frames = sequence()
    with torch.no_grad():
        first = network(frames, 2)
        network.forecast(frames[:1] * 3, 4)
        assert torch.equal(first, network(frames, 2))


@networks
def test_unroll_forecasts_each_frame_from_the_ones_before(kind):
    network = make(kind)
    frames = sequence(frames=6)
    with torch.no_grad():
        outputs = network.unroll(frames, 3)
        assert outputs.shape == (2, 5, 2, 8, 12)
        torch.testing.assert_close(outputs[:, 2:], network.forecast(frames[:, :3], 3))
        later = frames.clone()
        later[:, 3:] += 1
        assert torch.equal(outputs, network.unroll(later, 3))
        fed = network.unroll(later, 3, keep=torch.ones(2, 2))
        assert torch.equal(fed[:, :3], outputs[:, :3])
        assert not torch.allclose(fed[:, 3:], outputs[:, 3:])
        torch.testing.assert_close(fed, network.unroll(later, 5))


@networks
def test_keep_chooses_per_sequence_and_step(kind):
    network = make(kind)
    frames = sequence(frames=5)
    keep = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        mixed = network.unroll(frames, 2, keep)
        always, never = network.unroll(frames, 2, torch.ones(2, 2)), network.unroll(frames, 2)
    torch.testing.assert_close(mixed[0, 2], always[0, 2])
    torch.testing.assert_close(mixed[1, 2], never[1, 2])
    assert not torch.allclose(mixed[0, 3], always[0, 3])


@networks
def test_checkpointed_unroll_gives_the_same_outputs_and_gradients(kind):
    network = make(kind)
    frames = sequence()
    keep = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    outputs, gradients = [], []
    for checkpoint in (False, True):
        network.zero_grad()
        output = network(frames, 2, keep, checkpoint=checkpoint)
        output.square().sum().backward()
        outputs.append(output.detach())
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])  # type: ignore[union-attr]
    torch.testing.assert_close(outputs[0], outputs[1])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@networks
def test_checkpointed_unroll_keeps_fewer_tensors(kind):
    network = make(kind)

    def kept(checkpoint: bool) -> int:
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(sequence(), 2, checkpoint=checkpoint)
        return sum(sizes)

    assert kept(True) < 0.2 * kept(False)


def test_recomputation_gives_freed_memory_back_once_the_process_has_grown(monkeypatch):
    network, held, released = make("mim"), iter([3.0, 0.4, 0.8, 1.0, 0.5, *[0.9] * 99]), []
    monkeypatch.setattr("mim3d.nn.network._held_bytes", 0)
    monkeypatch.setattr("mim3d.nn.network.resident_bytes", lambda _: int(next(held) * 2**30))
    monkeypatch.setattr("mim3d.nn.network.release_freed_memory", lambda: released.append(True))
    network(sequence(), 2)
    assert not released
    # From 3 GB to 0.4; not at 0.8; from 1.0 to 0.5; never again at 0.9.
    network(sequence(), 2, checkpoint=True).sum().backward()
    assert len(released) == 2


def test_recomputation_on_another_device_leaves_the_memory_of_the_process_alone(monkeypatch):
    monkeypatch.setattr("mim3d.nn.network.resident_bytes", lambda _: pytest.fail("was looked up"))
    x = torch.ones(2, device="meta", requires_grad=True)
    run(True, torch.sin, x).sum().backward()
    assert x.grad is not None


@networks
def test_static_channels_are_carried_and_matter(kind):
    network = make(kind, channels=3, static_channels=1)
    frames = sequence(channels=3)
    frames[:, :, 2] = frames[:, :1, 2]
    with torch.no_grad():
        forecast = network.forecast(frames[:, :2], 4)
        assert forecast.shape[2] == 3
        assert torch.equal(forecast[:, :, 2], frames[:, :1, 2].expand(-1, 4, -1, -1))
        frames[:, :, 2] += 1 + torch.rand(8, 12)
        assert not torch.allclose(network.forecast(frames[:, :2], 4)[:, :, :2], forecast[:, :, :2], atol=1e-6)


@networks
def test_residual_adds_the_input(kind):
    frames = sequence()
    direct, residual = make(kind, residual=False), make(kind, residual=True)
    residual.load_state_dict(direct.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            residual.step(frames[:, 0])[0], direct.step(frames[:, 0])[0] + frames[:, 0]
        )


@ablatable
@pytest.mark.parametrize("peephole", ["channel", "none"])
def test_without_voxel_peepholes_any_grid_works(kind, peephole):
    network = make(kind, peephole=peephole, grid=None)
    with torch.no_grad():
        for grid in ((4, 8), (12, 4), (16, 16)):
            assert network.forecast(torch.randn(1, 1, 2, *grid), 3).shape == (1, 3, 2, *grid)


@networks
def test_forecast_keeps_no_state_of_the_past(kind):
    network = make(kind).eval()
    step = network.step
    states: list[weakref.ref] = []
    alive: list[int] = []

    def counted(frame, state=None):
        output, state = step(frame, state)
        states.append(weakref.ref(torch.utils._pytree.tree_leaves(state)[-1]))
        alive.append(sum(reference() is not None for reference in states))
        return output, state

    network.step = counted
    with torch.no_grad():
        forecast = network.forecast(sequence(), 20)
    assert not forecast.requires_grad
    assert len(alive) == 24
    assert max(alive) <= 2


@networks
def test_gradients_flow_through_a_forecast(kind):
    frames = sequence(frames=2).requires_grad_()
    make(kind).forecast(frames, 3)[:, -1].sum().backward()
    assert frames.grad is not None
    assert frames.grad.abs().max() > 0


@networks
def test_autocast_stays_close_and_returns_float32(kind):
    network = make(kind, axes=3, residual=True).eval()
    frames = sequence(3)
    with torch.no_grad():
        exact = network.forecast(frames[:, :2], 4)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network.forecast(frames[:, :2], 4)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


@networks
def test_step_is_one_graph(kind):
    network = make(kind)
    frames = sequence()
    # Networks share the code of `step`: each is compiled as if it were the first.
    torch._dynamo.reset()
    compiled = torch.compile(network.step, fullgraph=True, backend="eager")
    with torch.no_grad():
        output, state = compiled(frames[:, 0], None)
        output, _ = compiled(output, state)
        torch.testing.assert_close(output, network.forecast(frames[:, :1], 2)[:, 1])


@networks
def test_settings_build_the_same_network(kind):
    network = make(kind, channels=3, static_channels=1, residual=True, layer_norm=False)
    twin = build(kind, network.settings)
    assert twin.settings == network.settings
    twin.load_state_dict(network.state_dict())
    frames = sequence(channels=3)
    assert torch.equal(twin(frames, 2), network(frames, 2))


@ablatable
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_channels": (4, 5)}, r"hidden_channels must all be equal, .* found \(4, 5\)"),
        ({"hidden_channels": ()}, "hidden_channels needs one entry a layer"),
        ({"grid": (8, 13)}, r"grid \(8, 13\) is not divisible by patch_size.*: axis 1 has 13 voxels"),
        ({"grid": (8, 8, 8)}, r"grid must have num_axes = 2 positive entries, found \(8, 8, 8\)"),
        ({"grid": None}, 'peephole="voxel" has a weight per position: give grid'),
        ({"num_axes": 4}, "num_axes must be 1, 2 or 3, found 4"),
        ({"static_channels": 2}, "static_channels must be at least 0 and less than in_channels = 2, found 2"),
        ({"patch_size": 0}, "patch_size.* must be at least 1, found 0"),
        ({"kernel_size": 0}, "kernel_size must be at least 1, found 0"),
        ({"peephole": "all"}, "peephole must be one of voxel, channel, none, found 'all'"),
    ],
)
def test_wrong_settings_are_named(kind, change, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **change)


@ablatable
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 5, 3, 8, 12), r"frames must have shape \(B, T, 2, \*space\) .* found \(2, 5, 3, 8, 12\)"),
        ((2, 5, 2, 8), r"frames must have shape .* 2 axes of space, found \(2, 5, 2, 8\)"),
        ((2, 0, 2, 8, 12), "frames must hold at least one frame"),
        ((2, 5, 2, 12, 8), r"peepholes per voxel on a grid of .*, the input is on"),
        ((2, 5, 2, 8, 13), r"grid \(8, 13\) is not divisible by patch_size"),
    ],
)
def test_frames_that_do_not_fit_are_named(kind, shape, message):
    with pytest.raises(ValueError, match=message):
        make(kind).forecast(torch.zeros(shape), 2)


@networks
def test_frame_that_does_not_fit_is_named(kind):
    with pytest.raises(ValueError, match=r"frame must have shape \(B, 2, \*space\) .* found \(2, 8, 12\)"):
        make(kind).step(torch.zeros(2, 8, 12))


@networks
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named_with_their_place(kind, value):
    frames = sequence()
    frames[1, 3, 0, 7, 2] = value
    place = r"at sample 1, frame 3, channel 0, voxel \(7, 2\)"
    network = make(kind)
    with pytest.raises(ValueError, match=f"frames must be finite everywhere, found {value} {place}"):
        network.unroll(frames, 2)
    with pytest.raises(ValueError, match=place):
        network.forecast(frames, 2)


@networks
def test_lengths_out_of_range_are_named(kind):
    network, frames = make(kind), sequence()
    for length in (0, 5):
        with pytest.raises(
            ValueError, match=f"input_length must be 1 to 4 for sequences of 5 .* found {length}"
        ):
            network.unroll(frames, length)
    with pytest.raises(ValueError, match=r"keep must have shape .* = \(2, 2\), found \(2, 3\)"):
        network.unroll(frames, 2, torch.ones(2, 3))
    with pytest.raises(ValueError, match="steps must be at least 1, found 0"):
        network.forecast(frames, 0)


def test_unknown_networks_and_settings_are_named():
    with pytest.raises(
        ValueError, match="no network named 'gan'; there are: mim, mim-star, multiscale-mim, bundled-mim"
    ):
        build("gan", {})
    with pytest.raises(ValueError, match=r"settings of network 'mim': .*'depth'"):
        build("mim", {"in_channels": 1, "num_axes": 2, "depth": 3})
    with pytest.raises(ValueError, match=r"settings of network 'mim': missing .*'in_channels'"):
        build("mim", {"num_axes": 2})


def test_untrained_multiscale_network_is_persistence():
    network = MultiscaleMIM(1, (8, 8), num_axes=3)
    frames = torch.rand(1, 1, 1, 8, 8, 8)
    with torch.no_grad():
        forecast = network.forecast(frames, 5)
    assert (forecast - frames).abs().max() < 0.1


@networks
def test_a_short_training_learns_a_moving_bump(kind):
    """A bump that moves one voxel a frame: persistence has a mean squared error of 0.02."""
    random = np.random.default_rng(0)
    start = random.uniform(0, 16, size=(40, 1, 1))
    places = np.arange(16) - start - np.arange(6)[:, None]
    frames = torch.from_numpy(np.exp(np.cos(2 * np.pi * places / 16) * 4 - 4)).float()[:, :, None]
    torch.manual_seed(0)
    wanted = {
        "peephole": "channel",
        "residual": True,
        "patch_size": 1,
        "grid": (16,),
        "encoder_channels": (12,),
    }
    taken = inspect.signature(NETWORKS[kind]).parameters
    settings = {name: value for name, value in wanted.items() if name in taken}
    network = make(kind, 1, 1, hidden_channels=(12, 12), **settings)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    train, test = frames[:32], frames[32:]
    for _ in range(50):
        optimizer.zero_grad()
        (network(train, 2) - train[:, 1:]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        error = (network.forecast(test[:, :2], 4) - test[:, 2:]).square().mean()
    persistence = (test[:, 1:2] - test[:, 2:]).square().mean()
    assert error < 0.2 * persistence


def test_mim_defaults_are_the_papers():
    with torch.device("meta"):
        network = MIM(1, num_axes=3, grid=(32, 32, 32))
    assert network.settings == {
        "in_channels": 1,
        "hidden_channels": [64, 64, 64, 64],
        "kernel_size": 5,
        "num_axes": 3,
        "grid": [32, 32, 32],
        "patch_size": 1,
        "layer_norm": True,
        "peephole": "voxel",
        "residual": False,
        "static_channels": 0,
        "ablation": "none",
    }
    assert network.dynamic_channels == 1


def test_limits_hold_in_every_frame_and_what_follows_is_made_from_them():
    torch.manual_seed(0)
    network = build(
        "mim",
        {
            "in_channels": 2,
            "hidden_channels": [4, 4],
            "kernel_size": 3,
            "num_axes": 2,
            "peephole": "none",
            "residual": True,
            "static_channels": 1,
        },
    )
    frames = torch.rand(1, 2, 2, 6, 6)
    limits = torch.tensor([[0.2, 0.0], [0.7, 1.0]])
    with torch.no_grad():
        free, bound = network.forecast(frames, 4), network.forecast(frames, 4, limits)
        wide = network.forecast(frames, 4, torch.tensor([[-1e9, -1e9], [1e9, 1e9]]))
    torch.testing.assert_close(wide, free)
    torch.testing.assert_close(
        bound[:, 0], free[:, 0].clamp(limits[0].view(2, 1, 1), limits[1].view(2, 1, 1))
    )
    assert bound[:, :, 0].min() >= 0.2
    assert bound[:, :, 0].max() <= 0.7
    assert not torch.allclose(bound[:, 1], free[:, 1].clamp(0.2, 0.7))
