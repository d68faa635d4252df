"""The scores of a forecast, with persistence beside."""

import numpy as np
import pytest
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.metrics import ForecastScores
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as PER_CM3


def uniform(densities, velocity=1.0, twin=None):
    """Uniform gas, one number density [cm^-3] a frame."""
    density = PER_CM3 * np.asarray(densities, dtype=float)[:, None, None, None] * np.ones((1, 4, 4, 4))
    return Trajectory(
        fields={"density": density, "velocity": np.full((*density.shape, 3), velocity)},
        units={"density": u.Msun / u.pc**3, "velocity": u.km / u.s},
        times=np.arange(len(density)) + 1.0,
        box_size=(60.0, 60.0, 60.0),
        twin=twin,
    )


def test_forecast_and_persistence_by_hand():
    scores = ForecastScores.start(2, ("density", "velocity_y"))
    scores.accumulate(
        forecast=uniform([10, 20]),
        simulation=uniform([20, 40], velocity=2.0),
        initial=uniform([100, 10]),
        affected_forecast=np.ones((2, 4, 4, 4)),
        affected_simulation=np.ones((2, 4, 4, 4)),
    )
    values = scores.compute()
    np.testing.assert_allclose(values["mid_plane_error"], np.log10([2, 2]))
    np.testing.assert_allclose(values["volume_error"], np.log10([2, 2]))
    np.testing.assert_allclose(values["persistence_mid_plane_error"], np.log10([2, 4]))
    np.testing.assert_allclose(values["iou"], 1)
    np.testing.assert_allclose(values["vrmse_velocity_y"], 1 / np.sqrt(1e-7))
    np.testing.assert_allclose(values["mid_plane_ratio"], [1, 0.5])
    np.testing.assert_allclose(values["missed_mass"], 0)
    assert values["mass_error"] == pytest.approx([0.5, 0.5])
    assert values["mass_bias"] == pytest.approx([-0.5, -0.5])
    assert "drift_mid_plane_error" not in values


def test_drift_is_the_twins_way_from_the_start():
    scores = ForecastScores.start(2)
    scores.accumulate(uniform([10, 20]), uniform([20, 40], twin=uniform([20, 5])), uniform([10]))
    values = scores.compute()
    np.testing.assert_allclose(values["drift_mid_plane_error"], np.log10([2, 2]))
    np.testing.assert_allclose(values["mid_plane_drift_ratio"], [1, 1])


def test_the_papers_definition_counts_gas_that_thinned_out():
    scores = ForecastScores.start(1)
    thinned, kept = uniform([10]), uniform([10])
    thinned.fields["density"][0, :2] *= 0.8
    kept.fields["density"][0, :1] *= 0.8
    scores.accumulate(kept, thinned, uniform([10]))
    values = scores.compute()
    np.testing.assert_allclose(values["depleted_iou"], 0.5)
    np.testing.assert_allclose(values["depleted_missed_mass"], 0.5)
    assert np.isnan(values["iou"]).all()


def test_spread_holds_two_thirds_of_the_runs():
    scores = ForecastScores.start(1)
    for factor in np.linspace(1, 2, 101):
        scores.accumulate(uniform([10]), uniform([10 * factor]), uniform([10]))
    low, high = scores.spread()["mass_error"]
    assert low == pytest.approx(1 - 1 / 1.16)
    assert high == pytest.approx(1 - 1 / 1.84)
    assert scores.of_runs()["mass_deviation"].shape == (101, 1)


def test_vrmse_of_rollouts_as_the_well_gives_it():
    truth = np.random.default_rng(0).uniform(1, 2, (20, 4, 4, 4))
    times = np.arange(20.0)

    def gas(frames):
        velocity = np.stack([frames, 2 * frames, 4 * frames], axis=-1)
        return Trajectory(
            fields={"density": frames, "velocity": velocity},
            units={"density": u.Msun / u.pc**3, "velocity": u.km / u.s},
            times=times[: len(frames)] + 1,
            box_size=(60.0,) * 3,
        )

    errors = np.arange(1, 21.0)[:, None, None, None] * truth.std(axis=(1, 2, 3), keepdims=True)
    scores = ForecastScores.start(20, ("density", "velocity_x", "velocity_y", "velocity_z"))
    scores.accumulate(gas(truth + errors), gas(truth), gas(truth[:1]), one_step=gas(truth + errors / 10))
    table = scores.rollout_vrmse()
    assert table["density"]["6-12"] == pytest.approx(9, rel=1e-4)
    assert table["density"]["13-20"] == pytest.approx(16.5, rel=1e-4)
    assert table["density"]["one step"] == pytest.approx(1.05, rel=1e-4)
    assert table["velocity"]["6-12"] == pytest.approx(9, rel=1e-4)
    short = ForecastScores.start(4)
    short.accumulate(gas(truth[1:5]), gas(truth[:4]), gas(truth[:1]))
    assert short.rollout_vrmse() == {"density": {}}


def test_merging_equals_scoring_all_at_once():
    runs = [(uniform([a, a + 3]), uniform([a + 1, a]), uniform([a])) for a in (3, 30, 60)]
    together, first, second = ForecastScores.start(2), ForecastScores.start(2), ForecastScores.start(2)
    for i, run in enumerate(runs):
        together.accumulate(*run)
        (first if i else second).accumulate(*run)
    merged = first.merge(second)
    assert merged.num_samples == 3
    for name, values in together.compute().items():
        np.testing.assert_allclose(merged.compute()[name], values, err_msg=name)


def test_what_does_not_fit_is_refused():
    scores = ForecastScores.start(1, ("temperature",))
    with pytest.raises(UserError, match="no channel 'temperature'"):
        scores.accumulate(uniform([1]), uniform([1]), uniform([1]))
    with pytest.raises(UserError, match="2 frames to score"):
        scores.accumulate(uniform([1, 2]), uniform([1, 2]), uniform([1]))
    with pytest.raises(UserError, match="cannot merge"):
        scores.merge(ForecastScores.start(2))
