"""The gas solver in a model's place."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u

from mim3d.data import affected, well
from mim3d.errors import UserError
from mim3d.report import evaluate
from mim3d.resimulation import Resimulation
from mim3d.supernova import CloudSettings, simulate

FIELDS = ("density", "temperature", "velocity")


@pytest.fixture(scope="module")
def run():
    """A supernova that is stored on voxels twice as large as the cells, which the solver fills again."""
    settings = CloudSettings(grid=32, voxels=16, frame_times=tuple(frame / 150 for frame in range(4)), seed=4)
    (trajectory,) = simulate([settings], fields=FIELDS)
    return trajectory


def test_it_comes_near_the_simulation(run):
    forecast = Resimulation("cpu").forecast(run, 3)
    assert len(forecast) == 3
    assert forecast.seconds > 0
    np.testing.assert_allclose(forecast.trajectory.times, run.times[1:])
    difference = np.log10(forecast.trajectory.fields["density"] / run.fields["density"][1:])
    assert np.abs(difference).mean() < 0.01
    truth = affected(run.fields["density"], run.twin.fields["density"])[1:]
    assert (forecast.trajectory.fields["affected"] == truth).mean() > 0.99
    assert truth.any()
    assert set(forecast.trajectory.fields) == {*FIELDS, "affected"}
    for name in FIELDS:
        np.testing.assert_allclose(
            forecast.initial.fields[name][0], run.fields[name][0], rtol=1e-3, atol=1e-3
        )


def test_place_and_energy_are_those_of_the_file(run):
    other = replace(
        run.window(0, 1),
        site=(20.0, 30.0, 40.0),
        parameters={**run.parameters, "explosion_energy": 4e51 * u.erg},
        twin=None,
    )
    forecast = Resimulation("cpu").forecast(other, 1)
    hottest = np.unravel_index(forecast.trajectory.fields["temperature"][0].argmax(), (16,) * 3)
    np.testing.assert_allclose((np.array(hottest) + 0.5) * 60 / 16, other.site, atol=6)
    here = Resimulation("cpu").forecast(run, 1)
    gained = [
        (each.trajectory.fields["density"][0] * each.trajectory.fields["temperature"][0]).sum()
        for each in (here, forecast)
    ]
    assert gained[1] > 2 * gained[0]


def test_runs_are_scored_as_a_model_s_are(run, tmp_path):
    well.write(tmp_path / "run.h5", run)
    evaluation = evaluate(Resimulation("cpu"), tmp_path)
    assert evaluation.model == "simulation"
    assert evaluation.scores["mid_plane_ratio"][-1] < 0.3
    assert evaluation.scores["iou"][-1] > 0.75
    assert "one_step_vrmse_density" not in evaluation.scores


def test_units_of_the_file_do_not_matter(run):
    per_gram = (1 * u.Msun / u.pc**3).to_value(u.g / u.cm**3)
    other = replace(
        run,
        fields={**run.fields, "density": run.fields["density"] * per_gram},
        units={**run.units, "density": u.g / u.cm**3},
        box_size=(0.06,) * 3,
        site=(0.03,) * 3,
        length_unit=u.kpc,
        times=run.times * 1e6,
        time_unit=u.yr,
        twin=None,
    )
    made, expected = (Resimulation("cpu").forecast(gas, 2) for gas in (other, run))
    assert made.trajectory.units == expected.trajectory.units
    np.testing.assert_allclose(made.trajectory.times, expected.trajectory.times)
    np.testing.assert_allclose(made.trajectory.box_size, 60)
    np.testing.assert_allclose(
        made.trajectory.fields["density"], expected.trajectory.fields["density"], rtol=1e-2
    )


def test_what_it_cannot_simulate(run):
    solver = Resimulation("cpu")
    with pytest.raises(UserError, match="no --members"):
        solver.forecast(run, 1, members=8)
    density = {"density": run.fields["density"]}
    with pytest.raises(UserError, match="needs its temperature; there are: density"):
        solver.forecast(replace(run, fields=density, twin=None), 1)
    half = {name: values[:, :8] for name, values in run.fields.items()}
    flat = replace(run, fields=half, box_size=(30.0, 60.0, 60.0), site=(15.0, 30.0, 30.0), twin=None)
    with pytest.raises(UserError, match="as many voxels along every axis"):
        solver.forecast(flat, 1)
