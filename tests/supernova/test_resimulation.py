"""Gas simulated again from its own voxels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova import CloudSettings, simulate
from mim3d.supernova.blast import explode
from mim3d.supernova.cooling import CoolingCurve
from mim3d.supernova.resimulation import resimulate
from mim3d.supernova.simulation import evolve, gas_of
from mim3d.supernova.units import MSUN_KMS2_PER_ERG

TIMES = tuple(frame / 150 for frame in range(1, 8))
FIELDS = ("density", "temperature", "velocity")
PARSEC_CM = 3.0856775814913674e18


@pytest.fixture(scope="module")
def run() -> Trajectory:
    """A supernova that is stored on voxels twice as large as the cells that it is simulated on."""
    (trajectory,) = simulate(
        [CloudSettings(grid=32, voxels=16, frame_times=(0.0, *TIMES), seed=4)], fields=FIELDS
    )
    return trajectory


@pytest.fixture(scope="module")
def start(run) -> Trajectory:
    return replace(run.window(0, 1), twin=None)


@pytest.fixture(scope="module")
def again(start) -> Trajectory:
    return resimulate(start, TIMES, 1e51)


def log_density_error(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute error of each frame [dex]."""
    return np.abs(np.log10(made / truth)).mean(axis=(1, 2, 3))


def test_cells_finer_than_the_voxels_bring_it_near_the_simulation(run, start, again):
    np.testing.assert_allclose(again.times, run.times[1:])
    truth = run.fields["density"][1:]
    gas, width = gas_of(start)
    blast = explode(gas[0], width, start.site, 1e51 * MSUN_KMS2_PER_ERG, 100.0)[None]
    on_voxels = torch.cat(list(evolve(blast, TIMES, width, CoolingCurve())))[:, 0].numpy()
    error = log_density_error(again.fields["density"], truth)
    assert (error < 0.6 * log_density_error(on_voxels, truth)).all()
    mass = again.fields["density"].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(mass, truth.sum(axis=(1, 2, 3)), rtol=1e-3)
    for made, frame in zip(again.fields["temperature"], run.fields["temperature"][1:], strict=True):
        assert np.log10(made).max() == pytest.approx(np.log10(frame).max(), abs=0.2)


def test_affected_is_what_differs_from_the_gas_without_the_explosion(run, again):
    truth = np.abs(run.fields["density"] / run.twin.fields["density"] - 1)[1:] > 0.1
    assert again.fields["affected"].dtype == np.float32
    assert set(np.unique(again.fields["affected"])) == {0, 1}
    both, either = (again.fields["affected"] * truth).sum(), np.maximum(again.fields["affected"], truth).sum()
    assert both / either > 0.85
    assert truth.mean(axis=(1, 2, 3))[-1] > 0.02


def test_without_energy_nothing_is_affected(start, run):
    calm = resimulate(start, TIMES, 0.0)
    assert calm.fields["affected"].mean() < 1e-3
    error = log_density_error(calm.fields["density"], run.twin.fields["density"][1:])
    assert error.max() < 0.01


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
