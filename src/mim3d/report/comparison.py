"""A forecast beside the simulation of the same gas, and what both say of the shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from astropy import units as u

from mim3d.data import derived
from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.forecasting import AFFECTED, Forecast, align
from mim3d.metrics import ForecastScores, Reliability
from mim3d.supernova.remnant import measure_shape
from mim3d.trust.spread import spread_values


@dataclass(frozen=True)
class ShellHistory:
    """The shell at the start and at every frame after it.

    Parameters
    ----------
    times
        `(1 + T,)` [Myr after the start].
    radius
        `(1 + T,)` [pc]; NaN where there is no shell or no frame.
    affected_volume
        `(1 + T,)` [pc^3]; NaN where it is not known.
    """

    times: np.ndarray
    radius: np.ndarray
    affected_volume: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """A forecast with whatever is known of the truth.

    Parameters
    ----------
    forecast
        The forecast.
    simulation
        The simulation at the forecast's times and in its units, NaN where it has no frame; None where there
        is none to compare with.
    affected
        Truly affected gas `(T, *space)`, 0 or 1, NaN where not known; None where the simulation has no twin.
    score_sums
        Scores of this run, ready to be merged with those of others; None without a simulation.
    forecast_shell, simulation_shell
        The shell in both; None where density or the truth is missing.
    simulation_seconds
        Wall-clock time of the whole simulation, if its file says so.
    covered
        Share of the simulated time that the forecast spans.
    reliability
        By channel, how much of the truth the forecast's intervals hold; with `", affected gas"` behind the
        name, of the truly affected gas alone. Empty for forecasts without spread.
    """

    forecast: Forecast
    simulation: Trajectory | None = None
    affected: np.ndarray | None = None
    score_sums: ForecastScores | None = None
    forecast_shell: ShellHistory | None = None
    simulation_shell: ShellHistory | None = None
    simulation_seconds: float | None = None
    covered: float = 1.0
    reliability: Mapping[str, Reliability] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, np.ndarray] | None:
        """What `ForecastScores.compute` gives; None without a simulation."""
        return None if self.score_sums is None else self.score_sums.compute()

    @property
    def speed_up(self) -> float | None:
        """How many times faster the forecast was than the simulation, on the machines they ran on.

        Of the simulation's time only the share counts that it spent, on average, on as much simulated time.
        """
        if self.simulation_seconds is None:
            return None
        return self.covered * self.simulation_seconds / self.forecast.seconds


def compare(
    forecast: Forecast, source: Trajectory | None = None, one_step: Trajectory | None = None
) -> Comparison:
    """Put a forecast beside the simulation that it started from.

    Parameters
    ----------
    forecast
        The forecast.
    source
        The trajectory that was handed to the forecaster; frames of it at the forecast's times are the truth.
    one_step
        The same frames, each forecast from the true ones before it, see `Forecaster.one_step`.

    Returns
    -------
    Comparison
        With scores where the source goes on beyond the start.
    """
    has_density = _has_density(forecast.trajectory)
    shell = _history(forecast, forecast.trajectory, _masks(forecast)) if has_density else None
    simulation = (
        None if source is None else align(source, forecast.trajectory.times, forecast.trajectory.time_unit)
    )
    if source is None or simulation is None:
        return Comparison(forecast, forecast_shell=shell)
    simulation = _in_units_of(forecast.trajectory, simulation)
    if not has_density:
        return Comparison(forecast, simulation)
    affected = None
    if simulation.twin is not None and "density" in simulation.twin.fields:
        density, still = simulation.fields["density"], simulation.twin.fields["density"]
        known = np.isfinite(density) & np.isfinite(still)
        affected = np.where(known, derived.affected(density, still), np.nan)
    scores = ForecastScores.start(len(forecast), _channels(forecast.trajectory, simulation))
    scores.accumulate(
        forecast.trajectory,
        simulation,
        forecast.initial,
        None if affected is None else _masks(forecast),
        affected,
        forecast.trajectory.fields[AFFECTED] if forecast.affected_is_forecast else None,
        one_step if one_step is not None and len(one_step) == len(forecast) else None,
    )
    seconds = simulation.parameters.get("simulation_seconds")
    return Comparison(
        forecast=forecast,
        simulation=simulation,
        affected=affected,
        score_sums=scores,
        forecast_shell=shell,
        simulation_shell=_history(forecast, simulation, affected),
        simulation_seconds=None if seconds is None else _seconds(seconds),
        covered=_covered(forecast, source),
        reliability=_reliability(forecast, simulation, affected),
    )


def _covered(forecast: Forecast, source: Trajectory) -> float:
    """Share of the simulated time that the forecast spans, from its start on, at most all of it."""
    to_forecast = unit_factor(source.time_unit, forecast.trajectory.time_unit, "the time unit")
    first, last = source.times[0] * to_forecast, source.times[-1] * to_forecast
    begin, end = forecast.initial.times[-1], min(forecast.trajectory.times[-1], last)
    return float((end - begin) / (last - first)) if last > first else 1.0


def _reliability(
    forecast: Forecast, simulation: Trajectory, affected: np.ndarray | None
) -> dict[str, Reliability]:
    scores: dict[str, Reliability] = {}
    known = _channels(forecast.trajectory, simulation)
    for name, deviation in forecast.spread.items():
        if name not in known:
            continue
        made, true = (spread_values(name, each.channel(name)) for each in (forecast.trajectory, simulation))
        error = made - true
        scores[name] = Reliability.start(len(forecast))
        scores[name].accumulate(error, deviation)
        if affected is not None:
            inside = scores[f"{name}, affected gas"] = Reliability.start(len(forecast))
            inside.accumulate(np.where(affected > 0.5, error, np.nan), deviation)
    return scores


def _has_density(trajectory: Trajectory) -> bool:
    unit = trajectory.units.get("density")
    return unit is not None and unit.is_equivalent(u.Msun / u.pc**3) and trajectory.num_axes > 1


def _channels(forecast: Trajectory, simulation: Trajectory) -> tuple[str, ...]:
    """Name the channels that are forecast and that the simulation says."""
    return forecast.channel_names(tuple(name for name in forecast.fields if name in simulation.fields))


def _masks(forecast: Forecast) -> np.ndarray:
    return np.stack([forecast.affected_mask(frame) for frame in range(len(forecast))]).astype(np.float64)


def _history(forecast: Forecast, trajectory: Trajectory, affected: np.ndarray | None) -> ShellHistory:
    """Follow the shell from the start on, where there is none yet and nothing is affected."""
    start = forecast.initial.times[-1]
    times = np.concatenate([[0.0], (trajectory.times - start) * unit_factor(trajectory.time_unit, u.Myr)])
    volume = np.full(len(times), np.nan)
    volume[0] = 0.0
    if affected is not None:
        voxel = float(np.prod(trajectory.voxel_size))
        volume[1:] = affected.reshape(len(affected), -1).sum(axis=1) * voxel
    radius = np.full(len(times), np.nan)
    radius[0] = 0.0
    if trajectory.num_axes == 3:
        before = np.asarray(forecast.initial.fields["density"][-1])
        box = (trajectory.box_size, trajectory.site, trajectory.origin)
        radius[1:] = measure_shape(trajectory.fields["density"], before, *box).radius
    return ShellHistory(times, radius, volume)


def _in_units_of(forecast: Trajectory, simulation: Trajectory) -> Trajectory:
    """Return the simulation with the forecast's fields alone, in its units and lengths."""

    def convert(source: Trajectory, twin: Trajectory | None) -> Trajectory:
        names = [name for name in forecast.fields if name in source.fields and name != AFFECTED]
        fields = {}
        for name in names:
            if source.fields[name].shape[1:] != forecast.fields[name].shape[1:]:
                raise UserError(
                    f"field {name!r} is {source.fields[name].shape[1:]} in the simulation and "
                    f"{forecast.fields[name].shape[1:]} in the forecast"
                )
            fields[name] = source.fields[name] * unit_factor(
                source.units[name], forecast.units[name], f"field {name!r}"
            )
        return Trajectory(
            fields=fields,
            units={name: forecast.units[name] for name in names},
            times=source.times,
            box_size=forecast.box_size,
            time_unit=forecast.time_unit,
            length_unit=forecast.length_unit,
            origin=forecast.origin,
            boundary=source.boundary,
            parameters=source.parameters,
            site=forecast.site,
            twin=twin,
        )

    twin = None if simulation.twin is None else convert(simulation.twin, None)
    return convert(simulation, twin)


def _seconds(value: u.Quantity | float) -> float | None:
    """Seconds of a quantity; a plain number is seconds."""
    quantity = u.Quantity(value)
    unit = u.s if quantity.unit in (None, u.dimensionless_unscaled) else quantity.unit
    seconds = float(quantity.value) * unit_factor(unit, u.s, "simulation_seconds")
    return seconds if seconds > 0 else None
