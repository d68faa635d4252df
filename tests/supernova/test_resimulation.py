"""Gas simulated again from its own voxels."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova import CloudSettings, simulate
from mim3d.supernova.resimulation import resimulate

TIMES = tuple(frame / 150 for frame in range(1, 8))
FIELDS = ("density", "temperature", "velocity")
PARSEC_CM = 3.0856775814913674e18


@pytest.fixture(scope="module")
def run() -> Trajectory:
    """A supernova that is stored on the cells that it is simulated on."""
    (trajectory,) = simulate(
        [CloudSettings(grid=16, voxels=16, frame_times=(0.0, *TIMES), seed=4)], fields=FIELDS
    )
    return trajectory


@pytest.fixture(scope="module")
def start(run) -> Trajectory:
    return replace(run.window(0, 1), twin=None)


@pytest.fixture(scope="module")
def again(start) -> Trajectory:
    return resimulate(start, TIMES, 1e51)


def test_from_all_that_there_was_it_is_the_simulation(run, again):
    np.testing.assert_allclose(again.times, run.times[1:])
    for name, tolerance in (("density", 0.02), ("temperature", 0.1)):
        np.testing.assert_allclose(again.fields[name], run.fields[name][1:], rtol=tolerance)
    difference = again.fields["velocity"] - run.fields["velocity"][1:]
    assert np.abs(difference).max() < 0.01 * np.abs(run.fields["velocity"]).max()


def test_gas_without_the_explosion_is_followed_between_few_times(run, again):
    truth = np.abs(run.fields["density"] / run.twin.fields["density"] - 1)[1:] > 0.1
    assert again.fields["affected"].dtype == np.float32
    assert (again.fields["affected"] == truth).mean(axis=(1, 2, 3)).min() > 0.995
    assert truth.mean(axis=(1, 2, 3))[-1] > 0.02


def test_without_energy_nothing_is_affected(start, run):
    calm = resimulate(start, TIMES, 0.0)
    assert not calm.fields["affected"].any()
    np.testing.assert_allclose(calm.fields["density"], run.twin.fields["density"][1:], rtol=0.05)


def test_more_energy_affects_more(start, again):
    strong = resimulate(start, TIMES[:2], 4e51)
    assert strong.fields["affected"][-1].sum() > 1.1 * again.fields["affected"][1].sum()


def test_units_and_place_in_time_and_space_do_not_matter(start, again, in_cgs):
    cgs = in_cgs(start)
    other = replace(
        cgs,
        times=np.array([5000.0]),
        time_unit=u.yr,
        origin=(-10 * PARSEC_CM,) * 3,
        site=tuple((x - 10) * PARSEC_CM for x in start.site),
    )
    made = resimulate(other, TIMES[:3], 1e51)
    np.testing.assert_allclose(made.times, 5000 + 1e6 * np.array(TIMES[:3]))
    assert made.units["velocity"] == u.cm / u.s
    density = made.fields["density"] / (1 * u.Msun / u.pc**3).to_value(u.g / u.cm**3)
    np.testing.assert_allclose(density, again.fields["density"][:3], rtol=1e-2)
    np.testing.assert_allclose(
        made.fields["velocity"] / 1e5, again.fields["velocity"][:3], rtol=0.02, atol=0.5
    )


def test_what_cannot_be_simulated_is_named(start):
    half = {name: values[:, :8] for name, values in start.fields.items()}
    with pytest.raises(UserError, match=r"as many voxels along every axis, found \(8, 16, 16\)"):
        resimulate(replace(start, fields=half, box_size=(30.0, 60.0, 60.0), site=()), TIMES, 1e51)
    fields = {name: start.fields[name] for name in ("density", "temperature")}
    with pytest.raises(UserError, match="needs its velocity"):
        resimulate(replace(start, fields=fields), TIMES, 1e51)
    with pytest.raises(UserError, match="the length unit is in kg"):
        resimulate(replace(start, length_unit=u.kg), TIMES, 1e51)
