import dataclasses

import numpy as np
import pytest
import torch
from astropy import units as u

from mim3d.errors import UserError
from mim3d.supernova import CloudSettings, simulate
from mim3d.supernova.simulation import (
    choose_sites,
    evolve,
    turbulent_clouds,
)

SMALL = CloudSettings(grid=16, voxels=8, frame_times=(0.0, 0.01, 0.06), seed=4)


@pytest.fixture(scope="module")
def run():
    (trajectory,) = simulate([SMALL])
    return trajectory


def test_fields_come_with_units_times_and_a_twin(run):
    assert run.grid == (8, 8, 8)
    assert run.units["density"] == u.Msun / u.pc**3
    assert run.fields["velocity"].shape == (3, 8, 8, 8, 3)
    np.testing.assert_allclose(run.times, SMALL.frame_times)
    assert run.twin is not None
    assert run.twin.units == run.units
    assert run.site == (30.0, 30.0, 30.0)
    assert run.parameters["simulation_seconds"] > 0 * u.s
    assert run.parameters["explosion_energy"] == 1e51 * u.erg


def test_the_first_frame_is_the_gas_before_the_explosion(run):
    for name, values in run.fields.items():
        np.testing.assert_array_equal(values[0], run.twin.fields[name][0])
    np.testing.assert_allclose(run.fields["temperature"][0], SMALL.temperature, rtol=2e-3)


def test_only_the_explosion_heats_and_sweeps_the_gas(run):
    assert run.fields["temperature"][1].max() > 1e5
    assert run.twin.fields["temperature"].max() < 1e4
    differs = np.abs(run.fields["density"][-1] / run.twin.fields["density"][-1] - 1) > 0.1
    assert 0 < differs.mean() < 0.5
    assert differs[3:5, 3:5, 3:5].all()
    assert not differs[0].any()


def test_the_mean_density_is_that_asked_for_and_mass_stays(run):
    mean = run.fields["density"].mean(axis=(1, 2, 3), dtype=float)
    # 1.4 proton masses for every hydrogen nucleus.
    assert mean[0] == pytest.approx(44.5 * 1.4 * 0.024714, rel=1e-4)
    np.testing.assert_allclose(mean, mean[0], rtol=2e-3)


def test_a_seed_is_reproducible_also_inside_a_batch(run):
    other = dataclasses.replace(SMALL, seed=5)
    _, again = simulate([other, SMALL], fields=["density"])
    np.testing.assert_allclose(again.fields["density"], run.fields["density"], rtol=1e-4)


def test_uniform_gas_stays_as_symmetric_as_the_cube():
    (run,) = simulate([dataclasses.replace(SMALL, mach_number=0.0)], fields=["density"])
    density = run.fields["density"][-1]
    for axis in range(3):
        np.testing.assert_allclose(density, np.flip(density, axis), rtol=2e-4)
    np.testing.assert_allclose(density, density.transpose(1, 2, 0), rtol=2e-2)


def test_a_site_off_the_centre_explodes_there():
    settings = dataclasses.replace(SMALL, mach_number=0.0, site=(15.0, 30.0, 45.0))
    (run,) = simulate([settings], fields=["temperature"])
    hottest = np.unravel_index(run.fields["temperature"][1].argmax(), (8, 8, 8))
    np.testing.assert_allclose((np.array(hottest) + 0.5) * 7.5, settings.site, atol=4.0)


def test_filaments_and_voids_are_the_extremes_within_reach():
    density = np.random.default_rng(2).uniform(1, 2, (16, 16, 16))
    density[0, 0, 0], density[15, 15, 15] = 9, 0.1  # out of reach
    density[9, 6, 8], density[7, 9, 10] = 3, 0.5
    settings = dataclasses.replace(SMALL, grid=16, voxels=16, site_reach=12.0)
    for place, voxel in (("filament", (9, 6, 8)), ("void", (7, 9, 10))):
        (site,) = choose_sites(dataclasses.replace(settings, site=place), density)
        np.testing.assert_allclose(site, (np.array(voxel) + 0.5) * 60 / 16)


def test_places_off_the_centre_follow_from_the_seed():
    density = np.ones((8, 8, 8))
    sites = [
        choose_sites(dataclasses.replace(SMALL, seed=seed, site="off-centre", explosions=2), density)
        for seed in range(40)
    ]
    distances = np.linalg.norm(np.array(sites) - 30, axis=-1)
    assert distances.shape == (40, 2)
    assert distances[:, 0].min() > 0.5 * SMALL.site_reach
    assert distances.max() < SMALL.site_reach
    assert distances[:, 1].min() < 0.5 * SMALL.site_reach
    again = choose_sites(dataclasses.replace(SMALL, seed=3, site="off-centre", explosions=2), density)
    assert again == sites[3]


def test_two_explosions_leave_twice_the_heat():
    settings = dataclasses.replace(SMALL, mach_number=0.0, cooling="none", frame_times=(0.0, 1e-5))
    one, two = simulate([settings, dataclasses.replace(settings, explosions=2)], fields=["pressure"])
    heat = [1.5 * run.fields["pressure"][-1].sum(dtype=float) * 7.5**3 / 5.0291e7 for run in (one, two)]
    assert heat[1] - heat[0] == pytest.approx(1, abs=0.05)
    assert two.parameters["explosions"] == 2
    assert two.site == one.site == (30.0, 30.0, 30.0)


def test_turbulence_has_decayed_at_the_temperature_of_the_cloud():
    gas = turbulent_clouds([SMALL])
    velocity = gas[0, 1:4] / gas[0, 0]
    assert 0.3 < float(velocity.square().sum(0).mean().sqrt()) / (5 * 0.805) < 0.95
    assert float(gas[0, 0].std() / gas[0, 0].mean()) > 0.3


def test_evolving_stops_at_every_time_whatever_the_steps():
    gas = turbulent_clouds([dataclasses.replace(SMALL, mach_number=0.0)])
    states = list(evolve(gas, [1e-6, 0.5], SMALL.cell_width))
    assert len(states) == 2
    torch.testing.assert_close(states[-1], gas)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hydrogen_density": -1.0}, "hydrogen_density must be > 0"),
        ({"hydrogen_density": float("nan")}, "hydrogen_density must be > 0"),
        ({"mach_number": -2.0}, "mach_number must be >= 0"),
        ({"temperature": 1e6}, "temperature of the cloud"),
        ({"voxels": 5}, "multiple of voxels"),
        ({"frame_times": (0.0, 0.2, 0.1)}, "increase"),
        ({"frame_times": (0.1, 0.2)}, "start at 0"),
        ({"site": (70.0, 1.0, 1.0)}, "outside the box"),
        ({"site": "galaxy"}, "centre, filament, void, off-centre"),
        ({"site_reach": 40.0}, "site_reach must be > 0 and less than half"),
        ({"explosions": 0}, "explosions must be at least 1"),
        ({"cooling": "ice"}, "cooling is one of"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_gas_that_does_not_radiate_keeps_the_energy_of_the_explosion():
    hot, cool = (
        simulate([dataclasses.replace(SMALL, mach_number=0.0, cooling=cooling)], fields=["pressure"])[0]
        for cooling in ("none", "gnat2007")
    )
    heat = [1.5 * run.fields["pressure"][-1].sum() * 7.5**3 / 5.0291e7 for run in (hot, cool)]
    assert 0.6 < heat[0] < 1.05
    assert heat[1] < 0.6 * heat[0]


def test_an_unknown_field_is_named():
    with pytest.raises(UserError, match="entropy"):
        simulate([SMALL], fields=["entropy"])


def test_clouds_of_one_batch_share_their_grid():
    with pytest.raises(UserError, match="share their grid"):
        simulate([SMALL, dataclasses.replace(SMALL, grid=8)])
