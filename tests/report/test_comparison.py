"""A forecast beside the simulation that it started from."""

from dataclasses import replace

import numpy as np
from astropy import units as u

from mim3d.forecasting import Forecast
from mim3d.report import compare


def test_what_the_simulation_does_not_say_is_not_scored(small_blast):
    """A model may forecast more fields than the file of the simulation has."""
    told = replace(
        small_blast,
        fields={**small_blast.fields, "temperature": np.full_like(small_blast.fields["density"], 100)},
        units={**small_blast.units, "temperature": u.K},
        twin=None,
    )
    made, start = told.window(1, 4), told.window(0, 1)
    made = replace(
        made,
        fields={**made.fields, "affected": np.zeros_like(made.fields["density"])},
        units={**made.units, "affected": u.dimensionless_unscaled},
    )
    spread = {name: np.full_like(made.fields[name], 0.1) for name in ("density", "temperature")}
    forecast = Forecast(made, start, 0.1, "m", "cpu", affected_is_forecast=True, spread=spread)
    told, untold = (
        {*comparison.scores, *comparison.reliability}
        for comparison in (compare(forecast, told), compare(forecast, small_blast))
        if comparison.scores is not None
    )
    assert {"vrmse_density", "density"} <= untold
    assert {"vrmse_temperature", "temperature"} <= told - untold
