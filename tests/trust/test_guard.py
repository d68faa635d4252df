"""The guard: ordinary gas passes, other gas does not, and it says why."""

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from scipy import ndimage

from mim3d.data.symmetries import CUBE, apply
from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as PER_CM3
from mim3d.trust import Guard, describe_gas
from mim3d.trust.guard import bad_forecasts

GRID = 16


def cloud(seed, number_density=40.0, contrast=0.3, speed=3.0, temperature=100.0, **options):
    """Turbulent-looking gas."""
    random = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(
        random.normal(size=(4, GRID, GRID, GRID)), (0, 1.5, 1.5, 1.5), mode="wrap"
    )
    rough /= rough.std(axis=(1, 2, 3), keepdims=True)
    density = 10 ** (contrast * rough[0])
    return Trajectory(
        fields={
            "density": (number_density * PER_CM3 * density / density.mean())[None],
            "velocity": speed / np.sqrt(3) * np.moveaxis(rough[1:], 0, -1)[None],
            "temperature": np.full((1, GRID, GRID, GRID), temperature),
        },
        units={"density": u.Msun / u.pc**3, "velocity": u.km / u.s, "temperature": u.K},
        times=np.zeros(1),
        box_size=(60.0,) * 3,
        parameters={"explosion_energy": 1e51 * u.erg, "explosions": u.Quantity(1)},
        **options,
    )


def ordinary(seed):
    draw = np.random.default_rng([seed, 7])
    return cloud(
        seed,
        number_density=30 * 2 ** draw.uniform(),
        contrast=draw.uniform(0.25, 0.35),
        speed=draw.uniform(2, 4),
    )


@pytest.fixture(scope="module")
def guard():
    described = [describe_gas(ordinary(seed), ("density", "velocity")) for seed in range(90)]
    return Guard.fit(described[:60], described[60:], ("density", "velocity"))


def test_few_ordinary_clouds_are_flagged(guard):
    verdicts = [guard.check(ordinary(1000 + seed)) for seed in range(60)]
    assert sum(not verdict.is_inside for verdict in verdicts) <= 6
    # Of the clouds that set the limits, at most one in twenty.
    judges = [guard.check(ordinary(seed)) for seed in range(60, 90)]
    assert sum(not verdict.is_inside for verdict in judges) <= 0.05 * 30
    assert str(guard.check(ordinary(3))) == "inside the training range"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"number_density": 3.0}, "density 3 , trained on 30"),
        ({"number_density": 400.0}, "density 400, trained on 30"),
        ({"temperature": 8000.0}, "temperature 8e+03, trained on 100 K"),
        ({"speed": 30.0}, "Mach number 37"),
        ({"speed": 30.0}, "velocity spread 30, trained on 2"),
        ({"contrast": 1.0}, "density contrast"),
        ({"contrast": 0.0}, "density contrast 0, trained on"),
        ({"site": (45.0, 30.0, 30.0)}, "distance of the site from the centre 15, trained on 0 pc"),
    ],
)
def test_other_gas_is_flagged_with_the_reason(guard, changes, word):
    verdict = guard.check(cloud(5, **changes))
    assert not verdict.is_inside
    assert verdict.score > 1
    assert word.replace(" ,", ",") in str(verdict), str(verdict)


def test_explosions_that_were_not_trained_on_are_flagged(guard):
    for name, value, word in (
        ("explosion_energy", 2e51 * u.erg, "energy of the explosion 2e+51, trained on 1e+51 erg"),
        ("explosions", u.Quantity(2), "number of explosions 2, trained on 1"),
    ):
        gas = cloud(5)
        verdict = guard.check(replace(gas, parameters={**gas.parameters, name: value}))
        assert word in str(verdict)
    # What is not known is not held against it.
    assert guard.check(replace(ordinary(5), parameters={})).is_inside


def test_gas_that_is_arranged_in_an_unusual_way_is_far(guard):
    gas = ordinary(5)
    axis = (np.arange(GRID) + 0.5) / GRID - 0.5
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(axis, axis, axis, indexing="ij")))
    density = gas.fields["density"].copy()
    # The same gas, sorted: the densest in the middle.
    density[0][np.unravel_index(np.argsort(radius, axis=None), radius.shape)] = np.sort(
        density[0], axis=None
    )[::-1]
    verdict = guard.check(replace(gas, fields={**gas.fields, "density": density}))
    assert not verdict.is_inside
    assert "times as unusual" in str(verdict)


def test_a_turned_box_is_the_same_gas(guard):
    gas = cloud(5)
    channels = gas.to_channels(("density", "velocity", "temperature"))
    turned = apply(channels, CUBE[29], [(1, 2, 3)])
    fields = {
        "density": turned[:, 0],
        "velocity": np.moveaxis(turned[:, 1:4], 1, -1),
        "temperature": turned[:, 4],
    }
    assert guard.check(replace(gas, fields=fields)).score == pytest.approx(guard.check(gas).score, rel=1e-6)


def test_units_do_not_matter(guard):
    gas = cloud(5)
    other = Trajectory(
        fields={
            "density": gas.fields["density"] * 1e9,
            "velocity": gas.fields["velocity"] * 1e3,
            "temperature": gas.fields["temperature"],
        },
        units={"density": u.Msun / u.kpc**3, "velocity": u.m / u.s, "temperature": u.K},
        times=gas.times,
        box_size=(0.06,) * 3,
        length_unit=u.kpc,
        parameters={"explosion_energy": 1e44 * u.J},
    )
    assert guard.check(other).score == pytest.approx(guard.check(gas).score, rel=1e-6)


def test_a_guard_survives_json_and_damage_is_named(guard):
    text = json.dumps(guard.to_dict())
    again = Guard.from_dict(json.loads(text))
    assert again.check(cloud(5)).score == pytest.approx(guard.check(cloud(5)).score, rel=1e-4)
    for damage in ({"mean": "abc"}, {"ranges": None}, {"clouds": 3}):
        with pytest.raises(UserError, match="guard is damaged"):
            Guard.from_dict({**guard.to_dict(), **damage})
    with pytest.raises(UserError, match="no clouds"):
        Guard.fit([], [], ("density",))


def test_a_single_cloud_makes_a_guard_that_knows_it():
    gas = ordinary(1)
    guard = Guard.fit([describe_gas(gas)], [], ("density",))
    assert guard.check(gas).is_inside
    assert not guard.check(cloud(1, number_density=500.0)).is_inside


def test_images_are_no_gas(guard):
    images = Trajectory(
        fields={"density": np.ones((1, 8, 8))},
        units={"density": u.dimensionless_unscaled},
        times=np.zeros(1),
        box_size=(8.0, 8.0),
        length_unit=u.pix,
    )
    assert describe_gas(images) is None
    assert guard.check(images) is None


def test_bad_is_above_twice_the_worst_ordinary_error():
    ordinary_errors = np.linspace(0, 1, 101)
    np.testing.assert_array_equal(bad_forecasts(np.array([1.89, 1.91]), ordinary_errors), [False, True])
