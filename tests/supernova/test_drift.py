"""Where the gas goes when nothing explodes."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova import CloudSettings, simulate
from mim3d.supernova.drift import DRIFT_TIME, drift


@pytest.fixture(scope="module")
def run() -> Trajectory:
    """A cloud that is simulated on the voxels that are stored."""
    settings = CloudSettings(grid=16, voxels=16, frame_times=(0.0, float(DRIFT_TIME.value)), seed=4)
    (trajectory,) = simulate([settings])
    return trajectory


def test_it_is_the_twin_without_explosion(run):
    start = run.window(0, 1)
    change = np.log10(run.twin.fields["density"][1] / start.fields["density"][0])
    assert np.abs(change).max() > 0.1
    np.testing.assert_allclose(drift(start), change, atol=1e-3)


def test_gas_that_moves_as_one_stays_as_it_is(run):
    still = {name: np.ones_like(values[:1]) for name, values in run.fields.items()}
    still["temperature"] = still["temperature"] * 300
    start = replace(run.window(0, 1), fields=still, twin=None)
    np.testing.assert_allclose(drift(start), 0, atol=1e-5)


def test_units_do_not_matter(run, in_cgs):
    start = replace(run.window(0, 1), twin=None)
    in_grams = in_cgs(start)
    np.testing.assert_allclose(drift(in_grams), drift(start), atol=1e-4)


def test_what_it_cannot_be_worked_out_for(run):
    start = replace(run.window(0, 1), twin=None)
    without = {name: values for name, values in start.fields.items() if name != "velocity"}
    with pytest.raises(UserError, match="needs its velocity; there are: density"):
        drift(replace(start, fields=without))
    with pytest.raises(UserError, match="needs cubic voxels"):
        drift(replace(start, box_size=(60.0, 60.0, 30.0)))
    with pytest.raises(UserError, match="density is in K, which cannot be turned into Msun / pc3"):
        drift(replace(start, units={**start.units, "density": u.K}))
    for wrong in (np.nan, np.inf, 0.0, -1.0):
        broken = start.fields["density"].copy()
        broken[0, 3, 3, 3] = wrong
        with pytest.raises(UserError, match="density > 0 and finite values everywhere"):
            drift(replace(start, fields={**start.fields, "density": broken}))
    sliced = {name: values[:, 0] for name, values in start.fields.items()}
    flat = Trajectory(
        fields={**sliced, "velocity": sliced["velocity"][..., :2]},
        units=start.units,
        times=start.times,
        box_size=(60.0, 60.0),
    )
    with pytest.raises(UserError, match="needs three axes of space, found 2"):
        drift(flat)
