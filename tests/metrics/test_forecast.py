"""The scores of a forecast, with persistence beside."""

import numpy as np
import pytest
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.metrics import ForecastScores
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as PER_CM3


def uniform(densities, velocity=1.0):
    """Uniform gas, one number density [cm^-3] a frame."""
    density = PER_CM3 * np.asarray(densities, dtype=float)[:, None, None, None] * np.ones((1, 4, 4, 4))
    return Trajectory(
        fields={"density": density, "velocity": np.full((*density.shape, 3), velocity)},
        units={"density": u.Msun / u.pc**3, "velocity": u.km / u.s},
        times=np.arange(len(density)) + 1.0,
        box_size=(60.0, 60.0, 60.0),
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
