"""Calibrating a model on a folder of runs, and what its forecasts then say."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u

from mim3d import checkpoint as checkpoints
from mim3d.calibration import calibrate
from mim3d.data import well
from mim3d.errors import UserError
from mim3d.forecasting import Forecaster
from mim3d.report import evaluate


@pytest.fixture(scope="module")
def runs(blast_like, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(8):
        well.write(folder / f"run_{seed}.h5", blast_like(frames=4, grid=16, seed=seed))
    return folder


@pytest.fixture(scope="module")
def calibrated(runs, make_checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    provenance = {"validation_runs": ["run_6.h5#0", "run_7.h5#0"], "affected_threshold": 0.4}
    checkpoints.save(make_checkpoint(provenance=provenance), path)
    done = calibrate(path, runs, members=3, device="cpu")
    assert (done.training_runs, done.validation_runs, done.members) == (6, 2, 3)
    assert checkpoints.read(path).provenance["affected_threshold"] == done.affected_threshold != 0.4
    return path


def test_the_calibrated_model_judges_and_gives_intervals_that_hold(calibrated, runs, blast_like):
    forecaster = Forecaster(checkpoints.read(calibrated), "cpu", "calibrated")
    validation = well.read(runs / "run_6.h5")
    forecast = forecaster.forecast(validation, 3, members=3)
    assert forecast.verdict.is_inside
    assert forecast.spread_is_calibrated
    assert set(forecast.spread) == {"density"}
    assert forecast.spread["density"].shape == (3, 16, 16, 16)
    evaluation = evaluate(forecaster, runs, members=3)
    assert 0.85 < evaluation.coverage()["density"].at(0.9)[0] < 0.97
    assert len(evaluation.verdicts) == 8
    dense = blast_like(frames=4, grid=16, seed=6)
    dense = replace(dense, fields={"density": 20 * dense.fields["density"]}, twin=None)
    verdict = forecaster.forecast(dense, 1).verdict
    assert not verdict.is_inside
    assert "density 890, trained on 44.5" in str(verdict)


def test_the_spread_may_be_left_alone_and_the_model_kept(runs, make_checkpoint, tmp_path):
    checkpoints.save(make_checkpoint(), tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    done = calibrate(
        tmp_path / "m.safetensors", runs, members=1, output=tmp_path / "n.safetensors", device="cpu"
    )
    assert done.members == 0
    assert (tmp_path / "m.safetensors").read_bytes() == before
    written = checkpoints.read(tmp_path / "n.safetensors")
    assert written.spread is None
    assert written.guard is not None
    # It names no validation runs: some of the eight set the limits.
    assert done.training_runs + done.validation_runs == 8
    assert 1 <= done.validation_runs <= 4


def test_a_single_run_is_too_few(runs, make_checkpoint, tmp_path):
    checkpoints.save(make_checkpoint(), tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="too few"):
        calibrate(tmp_path / "m.safetensors", runs / "run_0.h5", device="cpu")


def test_the_mean_over_all_symmetries_is_as_symmetric_as_the_gas(make_checkpoint, blast_like):
    forecaster = Forecaster(make_checkpoint(grid=8), "cpu")
    gas = blast_like(frames=1, grid=8)
    even = replace(gas, fields={"density": np.full_like(gas.fields["density"], 1.5)}, twin=None)
    single = forecaster.forecast(even, 1).trajectory.fields["density"][0]
    mean = forecaster.forecast(even, 1, members=48)
    density = mean.trajectory.fields["density"][0]
    assert np.abs(single / single[::-1] - 1).max() > 1e-5
    np.testing.assert_allclose(density, density[::-1], rtol=1e-5)
    np.testing.assert_allclose(density, density.transpose(1, 2, 0), rtol=1e-5)
    np.testing.assert_allclose(mean.spread["density"][0], mean.spread["density"][0][:, ::-1], rtol=1e-2)
    assert mean.verdict is None
    assert not mean.spread_is_calibrated
    with pytest.raises(UserError, match="members must be 1 to 48"):
        forecaster.forecast(even, 1, members=49)


def test_velocities_are_turned_back(make_checkpoint, blast_like):
    scaling = {
        "channels": ["density", "velocity_x", "velocity_y", "velocity_z", "site"],
        "kinds": ["log", "asinh", "asinh", "asinh", "none"],
        "offset": [0.2, 0, 0, 0, 0],
        "scale": [0.6, 5, 5, 5, 1],
    }
    checkpoint = make_checkpoint(grid=8)
    settings = {**checkpoint.settings, "in_channels": 5}
    from mim3d.nn import build

    network = build("multiscale-mim", settings)
    checkpoint = replace(
        checkpoint,
        settings=settings,
        weights=network.state_dict(),
        fields=("density", "velocity_x", "velocity_y", "velocity_z"),
        scaling=scaling,
        units={"density": "solMass / pc3", "velocity": "km / s"},
    )
    gas = blast_like(frames=1, grid=8)
    velocity = np.zeros((*gas.fields["density"].shape, 3))
    velocity[..., 0], velocity[..., 1] = 10.0, -3.0
    gas = replace(
        gas,
        fields={**gas.fields, "velocity": velocity},
        units={**gas.units, "velocity": u.km / u.s},
        twin=None,
    )
    forecaster = Forecaster(checkpoint, "cpu")
    one, mean = (forecaster.forecast(gas, 1, members=count) for count in (1, 6))
    assert set(mean.spread) == {"density", "velocity_x", "velocity_y", "velocity_z"}
    # An untrained network changes little: what was turned must point where it did.
    np.testing.assert_allclose(
        mean.trajectory.fields["velocity"].mean(axis=(0, 1, 2, 3)), [10, -3, 0], atol=0.5
    )
    assert np.abs(one.trajectory.fields["velocity"] - mean.trajectory.fields["velocity"]).max() < 3
