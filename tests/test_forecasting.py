"""The road from fields in units to a forecast in units, and everything that can be wrong with the input."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy import units as u

import mim3d
from mim3d import checkpoint, forecasting, nn
from mim3d.data import Scaling, symmetries
from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.forecasting import Forecaster, align, best_model
from mim3d.nn import RecurrentForecaster
from mim3d.supernova import CloudSettings, simulate
from mim3d.supernova.deposit import Particles
from mim3d.supernova.resimulation import resimulate
from mim3d.supernova.simulation import GAS_FIELDS
from mim3d.trust import Verdict


@pytest.fixture(scope="module")
def forecaster(make_checkpoint):
    return Forecaster(make_checkpoint(), "cpu", "untrained")


class Drift(RecurrentForecaster):
    """Adds the same to every voxel of a channel, step by step."""

    def __init__(self, *changes):
        super().__init__(len(changes) + 1, 3, static_channels=1)
        self.changes = torch.tensor(changes)

    @property
    def settings(self):
        return {}

    def step(self, frame, state=None):
        return self._next_frame(frame, frame[:, :-1] + self.changes.view(-1, 1, 1, 1)), None


def changed(trajectory, frame=0, voxel=(4, 0, 7), value=-0.3):
    density = trajectory.fields["density"].copy()
    density[(frame, *voxel)] = value
    return replace(trajectory, fields={"density": density})


def test_forecast_comes_in_units_at_the_right_times(forecaster, small_blast):
    forecast = forecaster.forecast(small_blast, steps=5)
    assert len(forecast) == 5
    assert forecast.seconds > 0
    assert forecast.device == "cpu"
    assert set(forecast.trajectory.fields) == {"density", "affected"}
    assert forecast.trajectory.units["density"] == u.Msun / u.pc**3
    np.testing.assert_allclose(forecast.trajectory.times, np.arange(1, 6) / 150)
    assert forecast.trajectory.box_size == (60.0, 60.0, 60.0)
    assert forecast.trajectory.site == (30.0, 30.0, 30.0)
    assert len(forecast.initial) == 1


def test_an_untrained_network_forecasts_persistence(forecaster, small_blast):
    forecast = forecaster.forecast(small_blast, steps=3)
    start = small_blast.fields["density"][0]
    np.testing.assert_allclose(forecast.trajectory.fields["density"][-1], start, rtol=0.05)
    np.testing.assert_allclose(forecast.trajectory.fields["affected"], 0, atol=0.05)
    assert not forecast.affected_mask().any()


def test_only_the_start_is_looked_at(forecaster, small_blast):
    whole = forecaster.forecast(small_blast, steps=2)
    alone = forecaster.forecast(small_blast.window(0, 1), steps=2)
    np.testing.assert_array_equal(whole.trajectory.fields["density"], alone.trajectory.fields["density"])
    later = forecaster.forecast(small_blast.window(3, 5), steps=2)
    np.testing.assert_allclose(later.trajectory.times, np.array([4, 5]) / 150)


def test_other_units_of_the_same_gas_give_the_same_forecast(forecaster, small_blast):
    other = Trajectory(
        fields={"density": small_blast.fields["density"] * (u.Msun / u.pc**3).to(u.g / u.cm**3)},
        units={"density": u.g / u.cm**3},
        times=small_blast.times * u.Myr.to(u.yr),
        box_size=(0.06,) * 3,
        time_unit=u.yr,
        length_unit=u.kpc,
    )
    forecast = forecaster.forecast(other, steps=2)
    expected = forecaster.forecast(small_blast, steps=2)
    np.testing.assert_allclose(
        forecast.trajectory.fields["density"], expected.trajectory.fields["density"], rtol=1e-4
    )
    np.testing.assert_allclose(forecast.trajectory.times, expected.trajectory.times)
    np.testing.assert_allclose(forecast.trajectory.box_size, 60)


def test_the_site_matters(forecaster, small_blast):
    aside = forecaster.forecast(replace(small_blast, site=(15.0, 30.0, 40.0)), steps=2)
    centre = forecaster.forecast(small_blast, steps=2)
    assert not np.array_equal(aside.trajectory.fields["density"], centre.trajectory.fields["density"])


def test_models_without_an_affected_channel_use_the_change_of_density(make_checkpoint, small_blast):
    checkpoint = make_checkpoint(affected=False)
    forecaster = Forecaster(checkpoint, "cpu")
    # Thinner everywhere by 0.06 dex a frame.
    forecaster.network = Drift(-0.1)
    forecast = forecaster.forecast(small_blast, steps=3)
    assert not forecast.affected_is_forecast
    np.testing.assert_allclose(
        forecast.trajectory.fields["density"][2] / small_blast.fields["density"][0], 10**-0.18, rtol=1e-4
    )
    # 13 % less after one frame, 24 % after two, 34 % after three.
    assert [bool(forecast.affected_mask(k).all()) for k in range(3)] == [False, False, True]
    assert not forecast.affected_mask(1).any()


def test_affected_threshold_comes_from_the_checkpoint(make_checkpoint, small_blast):
    forecaster = Forecaster(make_checkpoint(), "cpu")
    forecaster.network = Drift(0.0, 0.15)
    forecast = forecaster.forecast(small_blast, steps=8)
    assert forecast.affected_is_forecast
    assert forecast.affected_threshold == 0.4
    assert [bool(forecast.affected_mask(k).all()) for k in range(4)] == [False, False, True, True]
    # What the network says is taken as a value from 0 to 1.
    assert forecast.trajectory.fields["affected"].max() == 1


def test_affected_particles(make_checkpoint, small_blast):
    forecaster = Forecaster(make_checkpoint(), "cpu")
    forecast = forecaster.forecast(replace(small_blast, origin=(-30.0,) * 3, site=(0.0,) * 3), steps=2)
    affected = np.zeros((2, 16, 16, 16))
    affected[0, 8, 8, 8] = 1
    affected[1, 0, 15, 3] = 1
    marked = replace(
        forecast,
        trajectory=replace(forecast.trajectory, fields={**forecast.trajectory.fields, "affected": affected}),
    )
    positions = [[1.0, 0.1, 3.0], [-29.9, 29.9, -16.0], [-1.0, 1.0, 1.0], [31.0, 0.0, 0.0], [-31.0, 0.0, 0.0]]
    particles = Particles(np.array(positions), np.ones(5), np.zeros((5, 3)), np.array([50, 40, 30, 20, 10]))
    assert marked.affected_particles(particles).tolist() == [50, 40]


def test_vectors_come_back_as_vectors(make_checkpoint, small_blast):
    velocity = np.random.default_rng(0).normal(size=(*small_blast.fields["density"].shape, 3))
    gas = Trajectory(
        fields={"velocity": velocity, "density": small_blast.fields["density"]},
        units={"density": u.Msun / u.pc**3, "velocity": u.m / u.s},
        times=small_blast.times,
        box_size=(60.0,) * 3,
    )
    fields = ("density", "velocity_x", "velocity_y", "velocity_z")
    settings = {**make_checkpoint().settings, "in_channels": 5}
    network = mim3d.nn.build("multiscale-mim", settings)
    checkpoint = make_checkpoint(
        settings=settings,
        weights=network.state_dict(),
        fields=fields,
        units={"density": "solMass / pc3", "velocity": "km / s"},
        scaling={
            "channels": fields,
            "kinds": ["log", "asinh", "asinh", "asinh"],
            "offset": [0.0] * 4,
            "scale": [1.0, 2.0, 2.0, 2.0],
        },
    )
    forecast = Forecaster(checkpoint, "cpu").forecast(gas, steps=2)
    assert forecast.trajectory.fields["velocity"].shape == (2, 16, 16, 16, 3)
    assert forecast.trajectory.units["velocity"] == u.km / u.s
    np.testing.assert_allclose(forecast.trajectory.fields["velocity"][0], velocity[0] / 1000, atol=0.03)


def test_checkpoints_that_say_little_take_what_comes():
    network = mim3d.nn.build(
        "mim", {"in_channels": 1, "hidden_channels": [4, 4], "kernel_size": 3, "num_axes": 2, "grid": [8, 8]}
    )
    checkpoint = mim3d.checkpoint.Checkpoint("mim", network.settings, network.state_dict(), input_length=3)
    frames = np.random.default_rng(0).uniform(size=(5, 8, 8))
    images = Trajectory(
        fields={"channel_0": frames},
        units={"channel_0": u.dimensionless_unscaled},
        times=np.arange(5.0),
        box_size=(8.0, 8.0),
        time_unit=u.dimensionless_unscaled,
        length_unit=u.pix,
    )
    forecast = Forecaster(checkpoint, "cpu").forecast(images, steps=4)
    assert forecast.trajectory.fields["channel_0"].shape == (4, 8, 8)
    np.testing.assert_allclose(forecast.trajectory.times, [3, 4, 5, 6])
    with pytest.raises(UserError, match="no density"):
        forecast.affected_mask()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda t: changed(t, value=-0.3),
            r"density must be > 0 everywhere, found -0.3 at voxel \(4, 0, 7\) of frame 0",
        ),
        (lambda t: changed(t, value=np.nan), r"found nan at voxel \(4, 0, 7\) of frame 0"),
        (lambda t: changed(t, value=0.0), r"found 0 at voxel"),
        (lambda t: changed(t, value=np.inf), r"found inf"),
        (lambda t: replace(t, units={"density": u.K}), r"field 'density' is in K, which cannot"),
        (lambda t: replace(t, units={"density": u.dimensionless_unscaled}), r"in no unit"),
        (lambda t: replace(t, box_size=(30.0,) * 3, site=()), r"box of 60 x 60 x 60 pc.*30 x 30 x 30 pc"),
        (lambda t: replace(t, length_unit=u.K), r"the length unit is in K"),
        (lambda t: replace(t, time_unit=u.K), r"the time unit is in K"),
        (
            lambda t: replace(t, fields={"mass": t.fields["density"]}, units={"mass": u.Msun}),
            r"needs the field 'density'; there are: mass",
        ),
        (
            lambda t: replace(t, fields={"density": t.fields["density"][:, ::2]}, twin=None),
            r"grid of 16 x 16 x 16 voxels, the input has 8 x 16 x 16",
        ),
        (
            lambda t: replace(
                t,
                fields={"density": t.fields["density"][..., 0]},
                box_size=(60.0,) * 2,
                origin=(),
                site=(),
                twin=None,
            ),
            "3 axes, the input has 2",
        ),
    ],
)
def test_what_is_wrong_is_named(forecaster, small_blast, damage, message):
    with pytest.raises(UserError, match=message):
        forecaster.forecast(damage(small_blast), steps=2)


def test_damage_after_the_start_does_no_harm(forecaster, small_blast):
    forecaster.forecast(changed(small_blast, frame=7), steps=2)


def test_time_step_is_checked_where_several_frames_go_in(make_checkpoint, small_blast):
    forecaster = Forecaster(make_checkpoint(input_length=3), "cpu")
    forecaster.forecast(small_blast, steps=1)
    with pytest.raises(UserError, match=r"0.0066667 Myr apart, frames 0 and 1 of the input are 0.02 Myr"):
        forecaster.forecast(replace(small_blast, times=small_blast.times * 3, twin=None), steps=1)
    with pytest.raises(UserError, match="starts from 3 frames, the trajectory has 2"):
        forecaster.forecast(small_blast.window(0, 2), steps=1)


def test_steps_must_be_positive(forecaster, small_blast):
    with pytest.raises(UserError, match="steps"):
        forecaster.forecast(small_blast, steps=0)


def test_load_by_path_and_by_name(model_path):
    assert mim3d.load(model_path, "cpu").name == "untrained"
    assert mim3d.load(str(model_path)).input_length == 1
    with pytest.raises(UserError, match="no model 'nothing'"):
        mim3d.load("nothing")


def test_align_picks_frames_by_time(small_blast):
    picked = align(small_blast, np.array([2, 3]) / 150)
    np.testing.assert_array_equal(picked.fields["density"], small_blast.fields["density"][2:4])
    assert picked.twin is not None
    partly = align(small_blast, np.array([18, 19, 20, 21]) / 150)
    assert np.isnan(partly.fields["density"]).any(axis=(1, 2, 3)).tolist() == [False, False, True, True]
    in_years = align(small_blast, np.array([2, 3]) / 150 * 1e6, u.yr)
    np.testing.assert_array_equal(in_years.fields["density"], picked.fields["density"])
    assert align(small_blast, np.array([0.5, 0.6])) is None
    assert align(small_blast.window(0, 1), np.array([1, 2]) / 150) is None


def test_the_best_model_makes_most_of_what_is_known(tmp_path, make_checkpoint, monkeypatch):
    of_all = make_checkpoint(fields=("density", "velocity_x", "velocity_y", "velocity_z", "affected"))
    checkpoint.save(make_checkpoint(), tmp_path / "a.safetensors")
    checkpoint.save(of_all, tmp_path / "b.safetensors")
    models = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    monkeypatch.setattr(forecasting, "bundled_models", lambda: models)
    assert best_model(["density", "velocity", "temperature"]) == "b"
    assert best_model(["density", "temperature"]) == "a"
    assert best_model(["pressure"]) == "a"
    monkeypatch.setattr(forecasting, "bundled_models", list)
    with pytest.raises(UserError, match="no bundled model"):
        best_model(["density"])


def test_half_precision_stays_close(make_checkpoint, small_blast):
    network = make_checkpoint().build_network()
    weights = {
        name: value + 0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        for name, value in network.state_dict().items()
    }
    full, half = (
        Forecaster(make_checkpoint(weights=weights), "cpu", precision=precision).forecast(small_blast, 3)
        for precision in ("float32", "bfloat16")
    )
    change = np.log10(full.trajectory.fields["density"] / small_blast.fields["density"][0])
    difference = np.log10(half.trajectory.fields["density"] / full.trajectory.fields["density"])
    assert 0 < np.abs(difference).mean() < 0.02 * np.abs(change).mean()


def test_memory_format_changes_how_it_is_computed_alone(make_checkpoint, small_blast):
    some, other = (
        Forecaster(make_checkpoint(), "cpu", memory_format=which) for which in ("contiguous", "channels-last")
    )
    assert other.channels_last
    assert not some.channels_last
    weight = next(p for p in other.network.parameters() if p.ndim == 5 and min(p.shape) > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    density = [item.forecast(small_blast, 2).trajectory.fields["density"] for item in (some, other)]
    np.testing.assert_allclose(*density, rtol=1e-4)


@pytest.fixture
def moving_gas():
    """Three frames of gas at random on 8^3 voxels, with velocities."""
    generator = np.random.default_rng(0)
    return Trajectory(
        fields={
            "density": 10 ** generator.normal(0, 0.3, (3, 8, 8, 8)),
            "velocity": generator.normal(0, 5, (3, 8, 8, 8, 3)),
        },
        units={"density": u.Msun / u.pc**3, "velocity": u.km / u.s},
        times=np.arange(3) / 150,
        box_size=(60.0,) * 3,
    )


@pytest.fixture
def given_velocity(make_checkpoint):
    """A model that is given the first velocity, with weights that make something of it."""
    velocity = tuple(f"velocity_{axis}" for axis in "xyz")
    plain = make_checkpoint(8)
    settings = {**plain.settings, "in_channels": 6, "static_channels": 4}
    network = nn.build(plain.network, settings)
    generator = torch.Generator().manual_seed(2)
    weights = {
        name: value + 0.05 * torch.randn(value.shape, generator=generator)
        for name, value in network.state_dict().items()
    }
    units = {**plain.units, "velocity": "km / s"}
    return Forecaster(
        replace(plain, settings=settings, weights=weights, static=("site", *velocity), units=units), "cpu"
    )


def test_a_given_field_counts_as_it_is_at_the_start(given_velocity, moving_gas):
    forecast = given_velocity.forecast(moving_gas, 2)
    assert "velocity" not in forecast.trajectory.fields
    velocity = np.array(moving_gas.fields["velocity"])
    velocity[1:] = 100.0
    later = replace(moving_gas, fields={**moving_gas.fields, "velocity": velocity})
    np.testing.assert_array_equal(
        given_velocity.forecast(later, 2).trajectory.fields["density"], forecast.trajectory.fields["density"]
    )
    still = replace(moving_gas, fields={**moving_gas.fields, "velocity": 0 * velocity})
    difference = (
        given_velocity.forecast(still, 2).trajectory.fields["density"] / forecast.trajectory.fields["density"]
    )
    assert np.abs(np.log10(difference)).max() > 1e-3
    without = {"density": moving_gas.fields["density"]}
    with pytest.raises(UserError, match="needs the field 'velocity'"):
        given_velocity.forecast(replace(moving_gas, fields=without, twin=None), 2)


def test_all_turns_together_turn_with_the_gas(given_velocity, moving_gas):
    turn = symmetries.group(3)[17]

    def turned(trajectory):
        fields = {
            name: np.asarray(
                symmetries.apply(
                    torch.from_numpy(trajectory.to_channels((name,)).copy()),
                    turn,
                    [[0, 1, 2]] if trajectory.is_vector(name) else [],
                )
            )
            for name in trajectory.fields
        }
        fields = {
            name: np.moveaxis(values, 1, -1) if trajectory.is_vector(name) else values[:, 0]
            for name, values in fields.items()
        }
        return replace(trajectory, fields=fields, twin=None)

    start = moving_gas.window(0, 1)
    once = given_velocity.forecast(turned(start), 1, members=48).trajectory
    again = turned(given_velocity.forecast(start, 1, members=48).trajectory)
    np.testing.assert_allclose(once.fields["density"], again.fields["density"], rtol=1e-4)


def test_who_lacks_a_field_is_told_of_the_model_that_can_do_without(
    tmp_path, make_checkpoint, monkeypatch, small_blast
):
    of_all = make_checkpoint(static=("site", "velocity_x", "velocity_y", "velocity_z"))
    checkpoint.save(make_checkpoint(), tmp_path / "a.safetensors")
    checkpoint.save(of_all, tmp_path / "b.safetensors")
    models = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    monkeypatch.setattr(forecasting, "bundled_models", lambda: models)
    assert best_model(["density", "velocity"]) == "b"
    assert best_model(["density"]) == "a"
    with pytest.raises(UserError, match=r"b needs the field 'velocity'.*The model a can do with these"):
        Forecaster(of_all, "cpu", "b").prepare(small_blast)
    with pytest.raises(UserError, match=r"there are: density$"):
        Forecaster(of_all, "cpu", "mine").prepare(small_blast)


def test_gas_whose_temperature_nobody_says_is_taken_for_cold(make_checkpoint, small_blast):
    model = make_checkpoint(
        fields=("density", "temperature"),
        scaling=Scaling(
            ("density", "temperature", "site"), ("log", "log", "none"), (0.2, 2.0, 0.0), (0.6, 1.0, 1.0)
        ).to_dict(),
        units={"density": "solMass / pc3", "temperature": "K", "time": "Myr", "length": "pc"},
    )
    forecaster = Forecaster(model, "cpu")
    said = replace(
        small_blast,
        fields={**small_blast.fields, "temperature": np.full_like(small_blast.fields["density"], 100)},
        units={**small_blast.units, "temperature": u.K},
        twin=None,
    )
    assert forecaster.assumed(said) == {}
    assert forecaster.assumed(small_blast) == {"temperature": 100 * u.K}
    unsaid, told = (forecaster.forecast(gas, 2).trajectory for gas in (small_blast, said))
    for name in ("density", "temperature"):
        np.testing.assert_array_equal(unsaid.fields[name], told.fields[name])
    assert Forecaster(make_checkpoint(), "cpu").assumed(small_blast) == {}


@pytest.fixture(scope="module")
def supernova():
    """A supernova on 8^3 voxels that was simulated on 16^3."""
    times = tuple(frame / 150 for frame in range(4))
    (run,) = simulate([CloudSettings(grid=16, voxels=8, frame_times=times)], fields=GAS_FIELDS)
    return run


@pytest.fixture(scope="module")
def guided():
    """An untrained guided model of three frames."""
    channels = ("density", "temperature", "velocity_x", "velocity_y", "velocity_z", "affected")
    torch.manual_seed(0)
    settings = {"in_channels": 7, "num_axes": 3, "output_length": 3, "static_channels": 1, "guided": True}
    network = nn.build("unet", {**settings, "hidden_channels": [4, 4]})
    kinds = ("log", "log", "asinh", "asinh", "asinh", "none", "none")
    scaling = Scaling((*channels, "site"), kinds, (0.0,) * 7, (0.5, 1.0, 10.0, 10.0, 10.0, 1.0, 1.0))
    return Forecaster(
        checkpoint.Checkpoint(
            network="unet",
            settings=network.settings,
            weights=network.state_dict(),
            scaling=scaling.to_dict(),
            fields=channels,
            static=("site",),
            grid=(8,) * 3,
            box_size=(60.0,) * 3,
            time_step=1 / 150,
            input_length=1,
            units={"density": "solMass / pc3", "temperature": "K", "velocity": "km / s"},
        ),
        "cpu",
        "guided",
    )


def test_an_untrained_guided_model_forecasts_its_guide(guided, supernova):
    forecast = guided.forecast(supernova, 3)
    guide = resimulate(supernova.window(0, 1), supernova.times[1:].tolist(), 1e51)
    for name in GAS_FIELDS:
        made = forecast.trajectory.fields[name]
        np.testing.assert_allclose(made, guide.fields[name], rtol=0.15, atol=2 if name == "velocity" else 0)
    assert (forecast.affected_mask() == (guide.fields["affected"][-1] > 0.5)).mean() > 0.99
    # One frame takes as long a guide, and is the same.
    first = guided.forecast(supernova, 1).trajectory.fields["density"]
    np.testing.assert_allclose(first[0], forecast.trajectory.fields["density"][0], rtol=1e-5)
    assert len(guided.forecast(supernova, 5)) == 5


def test_energy_and_place_of_the_explosion_go_into_the_guide(guided, supernova):
    strong = replace(supernova, parameters={**supernova.parameters, "explosion_energy": 4e51 * u.erg})
    aside = replace(supernova, site=(20.0, 30.0, 30.0))
    plain = guided.forecast(supernova, 3)
    heat = [
        (each.trajectory.fields["density"][0] * each.trajectory.fields["temperature"][0]).sum()
        for each in (plain, guided.forecast(strong, 3))
    ]
    assert heat[1] > 2 * heat[0]
    affected = guided.forecast(aside, 3).affected_mask()
    assert np.argwhere(affected)[:, 0].mean() < np.argwhere(plain.affected_mask())[:, 0].mean() - 1


def test_gas_that_the_guard_does_not_know_is_left_to_the_guide(guided, supernova, monkeypatch):
    guide = guided.forecast(supernova, 3)
    verdict = Verdict(is_inside=False, score=3.0, reasons=("denser than the training",))
    unsure = replace_guard(guided, verdict)
    monkeypatch.setattr(
        type(guided.network), "forecast", lambda *_: pytest.fail("the network was asked"), raising=True
    )
    alone = unsure.forecast(supernova, 3)
    assert alone.is_guide_alone
    assert not guide.is_guide_alone
    made = resimulate(supernova.window(0, 1), supernova.times[1:].tolist(), 1e51)
    np.testing.assert_allclose(alone.trajectory.fields["density"], made.fields["density"], rtol=1e-4)
    np.testing.assert_array_equal(alone.affected_mask(), made.fields["affected"][-1] > 0.5)


def test_members_give_the_spread_of_a_guide(guided, supernova):
    unsure = replace_guard(guided, Verdict(is_inside=False, score=3.0, reasons=("denser",)))
    one, several = unsure.forecast(supernova, 2), unsure.forecast(supernova, 2, members=4)
    np.testing.assert_array_equal(several.trajectory.fields["density"], one.trajectory.fields["density"])
    assert several.spread["density"].max() > 0
    known = replace_guard(guided, Verdict(is_inside=True, score=0.5, reasons=()))
    assert not known.forecast(supernova, 2).is_guide_alone


def replace_guard(forecaster, verdict):
    """Return the forecaster with a guard that always says the same."""
    other = copy.copy(forecaster)
    other.guard = SimpleNamespace(check=lambda _: verdict)
    return other


def test_a_guide_of_older_models_is_another(guided):
    old = replace(guided.checkpoint, format_version=2)
    with pytest.raises(UserError, match=r"old was trained with a coarser guide .* train it on"):
        Forecaster(old, "cpu", "old")


def test_a_guide_turns_with_the_gas(guided, supernova):
    network = guided.network
    saved = network.state_dict()
    # A network that adds nothing: whatever way the gas is turned, the guide comes back as it was.
    network.load_state_dict({name: torch.zeros_like(value) for name, value in saved.items()})
    try:
        one, eight = (guided.forecast(supernova, 3, members=members) for members in (1, 8))
    finally:
        network.load_state_dict(saved)
    np.testing.assert_allclose(
        eight.trajectory.fields["velocity"], one.trajectory.fields["velocity"], rtol=1e-3, atol=1e-3
    )
    assert max(float(np.abs(spread).max()) for spread in eight.spread.values()) < 1e-3


def test_a_guided_model_needs_what_the_solver_needs(guided, supernova):
    fields = {name: supernova.fields[name] for name in ("density", "temperature")}
    with pytest.raises(UserError, match="guided needs the field 'velocity'"):
        guided.forecast(replace(supernova, fields=fields, twin=None), 1)
    fields = {name: supernova.fields[name] for name in ("density", "velocity")}
    cold = replace(supernova, fields=fields, twin=None)
    assert guided.assumed(cold) == {"temperature": 100 * u.K}
    assert len(guided.forecast(cold, 1)) == 1
