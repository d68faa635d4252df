"""How well the remnant as a whole is forecast: its shell, cavity, mass, heat and momentum."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from mim3d.data.derived import explosion_energy
from mim3d.fields import Trajectory
from mim3d.metrics.density import number_density
from mim3d.metrics.gas import distribution_distance, power_spectrum, thermal_pressure
from mim3d.supernova.analytic import sedov_radius, shell_formation_time
from mim3d.supernova.remnant import measure_shape
from mim3d.supernova.shell import radial_momentum, shock_radius, thermal_energy

UNIFORM = 1e-3
"""Gas counts as uniform if its density before the explosion varies by less than this fraction."""

_SMALLEST_CAVITY = 8
"""Voxels that a cavity must have for its volume to be compared."""


def remnant_scores(
    forecast: Trajectory, simulation: Trajectory, initial: Trajectory
) -> dict[str, np.ndarray]:
    """Score one forecast as a remnant.

    Heat and momentum are those that the explosion adds: the twin's are subtracted, or the start's where there
    is no twin.

    Parameters
    ----------
    forecast, simulation
        The same T frames in pc, Myr, Msun/pc^3, K, km/s; NaN where not simulated.
    initial
        The frames before; the last is the gas just before the explosion.

    Returns
    -------
    dict of numpy.ndarray
        `(T,)` each, NaN where not defined. Deviations are forecast / simulation - 1.

        - `shell_radius_deviation`, `cavity_volume_deviation`; `shell_ray_error`, the root mean square over
          rays of the deviation of the cavity's wall; `shell_quadrupole` and `shell_thickness` [pc], also with
          `simulation_` in front, and `shell_quadrupole_error`, the size of their difference;
        - `mass_deviation`, `thermal_energy_deviation`, `radial_momentum_deviation`, the last two where
          pressure or temperature and velocity are forecast;
        - `density_distribution_distance` [dex], see `distribution_distance`; `power_spectrum_error` [dex],
          the mean over wave numbers of the size of the difference in log10 power;
        - in uniform gas, until a shell forms: `sedov_radius_deviation`, the shock's radius over the analytic
          one - 1, also with `simulation_` in front.
    """
    truth, made = (
        np.asarray(source.fields["density"], dtype=np.float64) for source in (simulation, forecast)
    )
    before = np.asarray(initial.fields["density"][-1], dtype=np.float64)
    known = np.isfinite(truth).reshape(len(truth), -1).all(axis=1)
    # A deposit of particles can leave a voxel empty.
    positive = known & (truth > 0).reshape(len(truth), -1).all(axis=1)
    positive &= (made > 0).reshape(len(made), -1).all(axis=1)
    scores = {"mass_deviation": _relative(made.sum(axis=_space(made)), truth.sum(axis=_space(truth)))}
    distance, spectrum = np.full((2, len(truth)), np.nan)
    if positive.any():
        distance[positive] = distribution_distance(made[positive], truth[positive])
        spectrum[positive] = _spectrum_error(made[positive], truth[positive])
    scores |= {"density_distribution_distance": distance, "power_spectrum_error": spectrum}
    if forecast.num_axes != 3:
        return scores
    scores |= _shape_scores(made, truth, before, simulation)
    scores |= _budget_scores(forecast, simulation, initial)
    if np.ptp(before) < UNIFORM * before.mean():
        scores |= _sedov_scores(made, truth, before, simulation, initial)
    return scores


def _shape_scores(
    made: np.ndarray, truth: np.ndarray, before: np.ndarray, simulation: Trajectory
) -> dict[str, np.ndarray]:
    place = (simulation.box_size, simulation.site, simulation.origin)
    own, real = (measure_shape(density, before, *place) for density in (made, truth))
    ray = np.square(_relative(own.wall, real.wall))
    count = np.isfinite(ray).sum(axis=1)
    smallest = _SMALLEST_CAVITY * float(np.prod(simulation.voxel_size))
    has_cavity = real.cavity_volume >= smallest
    unknown = np.isnan(real.radius)
    scores = {
        "shell_radius_deviation": _relative(own.radius, real.radius),
        "cavity_volume_deviation": np.where(
            has_cavity, _relative(own.cavity_volume, real.cavity_volume), np.nan
        ),
        "shell_ray_error": np.where(
            (count > 0) & ~unknown, np.sqrt(np.nansum(ray, axis=1) / np.maximum(count, 1)), np.nan
        ),
    }
    for prefix, shape in (("", own), ("simulation_", real)):
        scores[f"{prefix}shell_quadrupole"] = np.where(unknown, np.nan, shape.quadrupole)
        scores[f"{prefix}shell_thickness"] = np.where(unknown, np.nan, shape.thickness)
    return scores | {"shell_quadrupole_error": np.abs(own.quadrupole - real.quadrupole)}


def _budget_scores(
    forecast: Trajectory, simulation: Trajectory, initial: Trajectory
) -> dict[str, np.ndarray]:
    scores = {}
    for name, measure in (("thermal_energy", _heat), ("radial_momentum", _momentum)):
        made, truth, start = measure(forecast), measure(simulation), measure(initial)
        if made is None or truth is None or start is None:
            continue
        still = None if simulation.twin is None else measure(simulation.twin)
        without = start[-1] if still is None else still
        scores[f"{name}_deviation"] = _relative(made - without, truth - without)
    return scores


def _heat(gas: Trajectory) -> np.ndarray | None:
    if "pressure" in gas.fields:
        return thermal_energy(np.asarray(gas.fields["pressure"]), gas.box_size)
    if {"density", "temperature"} <= set(gas.fields):
        density, temperature = (np.asarray(gas.fields[name]) for name in ("density", "temperature"))
        return thermal_energy(thermal_pressure(density, np.maximum(temperature, 1.0)), gas.box_size)
    return None


def _momentum(gas: Trajectory) -> np.ndarray | None:
    if not {"density", "velocity"} <= set(gas.fields):
        return None
    density, velocity = (np.asarray(gas.fields[name]) for name in ("density", "velocity"))
    return radial_momentum(density, velocity, gas.box_size, gas.site, gas.origin)


def _sedov_scores(
    made: np.ndarray, truth: np.ndarray, before: np.ndarray, simulation: Trajectory, initial: Trajectory
) -> dict[str, np.ndarray]:
    if not simulation.time_unit.is_equivalent(u.Myr):
        return {}
    erg = explosion_energy(simulation)
    since = (simulation.times - initial.times[-1]) * simulation.time_unit.to(u.Myr)
    exact = sedov_radius(erg, float(before.mean()), since)
    is_early = since < shell_formation_time(float(number_density(before.mean())), erg)
    scores = {}
    for prefix, density in (("", made), ("simulation_", truth)):
        radius = np.full(len(density), np.nan)
        for frame in np.flatnonzero(is_early & np.isfinite(truth).all(axis=_space(truth))):
            radius[frame] = shock_radius(
                density[frame], before, simulation.box_size, simulation.site, simulation.origin
            )
        scores[f"{prefix}sedov_radius_deviation"] = _relative(radius, exact)
    return scores


def _spectrum_error(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    power, real = power_spectrum(made), power_spectrum(truth)
    # Uniform gas has no power but rounding.
    known = real > 1e-12
    size = np.abs(np.log10(np.where(known, np.maximum(power, 1e-12), 1) / np.where(known, real, 1)))
    return np.where(known.any(axis=1), size.sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)


def _relative(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        result = values / reference - 1
    return np.where(np.isfinite(result), result, np.nan)


def _space(values: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1, values.ndim))
