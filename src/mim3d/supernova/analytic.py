"""Exact and published solutions that the gas solver is held to."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from mim3d.errors import UserError
from mim3d.supernova.units import ADIABATIC_INDEX, MSUN_KMS2_PER_ERG, MYR_PER_CODE_TIME

SEDOV_COEFFICIENT = 1.15167
"""R (rho / (E t^2))^(1/5) of a point explosion in uniform gas with a ratio of specific heats of 5/3."""


class GasState(NamedTuple):
    """Density, velocity and pressure, in any consistent units."""

    density: float
    velocity: float
    pressure: float


class GasProfile(NamedTuple):
    """Density, velocity and pressure at many places; arrays of one shape."""

    density: np.ndarray
    velocity: np.ndarray
    pressure: np.ndarray


SOD_LEFT = GasState(density=1.0, velocity=0.0, pressure=1.0)
SOD_RIGHT = GasState(density=0.125, velocity=0.0, pressure=0.1)


def riemann(left: GasState, right: GasState, speed: np.ndarray, gamma: float = ADIABATIC_INDEX) -> GasProfile:
    """Solve exactly how two uniform states of gas evolve after the wall between them is gone.

    Parameters
    ----------
    left, right
        States on the two sides of x = 0 at time 0; density and pressure > 0.
    speed
        x / t at which the solution is wanted, any shape, in the units of the velocities.
    gamma
        Ratio of specific heats.

    Returns
    -------
    GasProfile
        The solution, with the shape of `speed`.

    Raises
    ------
    UserError
        If a density or pressure is not > 0, or the states part so fast that they leave a vacuum.

    References
    ----------
    Toro 2009, *Riemann Solvers and Numerical Methods for Fluid Dynamics*, chapter 4. The shock tube of Sod
    1978, J. Comput. Phys. 27, 1 is `SOD_LEFT`, `SOD_RIGHT`, with gamma = 1.4.
    """
    for name, state in (("left", left), ("right", right)):
        if not (state.density > 0 and state.pressure > 0):
            raise UserError(f"density and pressure of the {name} state must be > 0, found {state}")
    sound_left = np.sqrt(gamma * left.pressure / left.density)
    sound_right = np.sqrt(gamma * right.pressure / right.density)
    if 2 / (gamma - 1) * (sound_left + sound_right) <= right.velocity - left.velocity:
        raise UserError("the states part faster than the gas can fill: a vacuum opens between them")

    def speed_change(pressure: float, state: GasState, sound: float) -> float:
        """Change of velocity across the wave that leaves gas at `pressure` behind (Toro eqs. 4.6, 4.7)."""
        if pressure > state.pressure:
            steepness = (gamma + 1) / 2 * pressure + (gamma - 1) / 2 * state.pressure
            return (pressure - state.pressure) / np.sqrt(state.density * steepness)
        return 2 * sound / (gamma - 1) * ((pressure / state.pressure) ** ((gamma - 1) / (2 * gamma)) - 1)

    def mismatch(log_pressure: float) -> float:
        pressure = np.exp(log_pressure)
        return (
            speed_change(pressure, left, sound_left)
            + speed_change(pressure, right, sound_right)
            + right.velocity
            - left.velocity
        )

    middle = np.log(max(left.pressure, right.pressure))
    low, high = middle - 1, middle + 1
    while mismatch(low) > 0:
        low -= 5
    while mismatch(high) < 0:
        high += 5
    pressure = float(np.exp(cast(float, brentq(mismatch, low, high, xtol=1e-14))))
    contact = 0.5 * (
        left.velocity
        + right.velocity
        + speed_change(pressure, right, sound_right)
        - speed_change(pressure, left, sound_left)
    )

    speed = np.asarray(speed, dtype=np.float64)
    from_left = _behind_contact(left, contact, pressure, speed, gamma)
    # The right side is the left side seen in a mirror.
    mirrored = GasState(right.density, -right.velocity, right.pressure)
    from_right = _behind_contact(mirrored, -contact, pressure, -speed, gamma)
    is_left = speed < contact
    return GasProfile(
        np.where(is_left, from_left.density, from_right.density),
        np.where(is_left, from_left.velocity, -from_right.velocity),
        np.where(is_left, from_left.pressure, from_right.pressure),
    )


def _behind_contact(
    state: GasState, contact: float, pressure: float, speed: np.ndarray, gamma: float
) -> GasProfile:
    """Left side of the solution: the undisturbed state, the wave that runs to the left, the gas behind it."""
    sound = np.sqrt(gamma * state.pressure / state.density)
    ratio = pressure / state.pressure
    if ratio > 1:
        weight = (gamma - 1) / (gamma + 1)
        density = state.density * (ratio + weight) / (weight * ratio + 1)
        shock = state.velocity - sound * np.sqrt(
            (gamma + 1) / (2 * gamma) * ratio + (gamma - 1) / (2 * gamma)
        )
        is_behind = speed > shock
        return GasProfile(
            np.where(is_behind, density, state.density),
            np.where(is_behind, contact, state.velocity),
            np.where(is_behind, pressure, state.pressure),
        )
    density = state.density * ratio ** (1 / gamma)
    head = state.velocity - sound
    tail = contact - sound * ratio ** ((gamma - 1) / (2 * gamma))
    inside = np.clip(speed, head, tail)
    fan_velocity = 2 / (gamma + 1) * (sound + (gamma - 1) / 2 * state.velocity + inside)
    fan_sound = fan_velocity - inside
    fan_density = state.density * (fan_sound / sound) ** (2 / (gamma - 1))
    fan_pressure = state.pressure * (fan_sound / sound) ** (2 * gamma / (gamma - 1))
    places = [speed <= head, speed < tail]
    return GasProfile(
        np.select(places, [np.full_like(speed, state.density), fan_density], density),
        np.select(places, [np.full_like(speed, state.velocity), fan_velocity], contact),
        np.select(places, [np.full_like(speed, state.pressure), fan_pressure], pressure),
    )


def sedov_radius(energy_erg: float, density: float, time_myr: np.ndarray | float) -> np.ndarray:
    """Radius of the shock of a point explosion in uniform gas that does not cool, gamma = 5/3.

    Parameters
    ----------
    energy_erg
        Energy of the explosion [erg].
    density
        Mass density of the gas around [Msun/pc^3].
    time_myr
        Time since the explosion [Myr].

    Returns
    -------
    numpy.ndarray
        R = 1.152 (E t^2 / rho)^(1/5) [pc].

    References
    ----------
    Sedov 1959, *Similarity and Dimensional Methods in Mechanics*, chapter 4.
    """
    code_time = np.asarray(time_myr, dtype=np.float64) / MYR_PER_CODE_TIME
    return SEDOV_COEFFICIENT * (energy_erg * MSUN_KMS2_PER_ERG * code_time**2 / density) ** 0.2


def sedov_profile(radius_fraction: np.ndarray, gamma: float = ADIABATIC_INDEX) -> GasProfile:
    """Inside of a Sedov-Taylor blast wave.

    Parameters
    ----------
    radius_fraction
        Radius over the radius of the shock, > 0, any shape.
    gamma
        Ratio of specific heats.

    Returns
    -------
    GasProfile
        Density over the density rho_0 of the gas around, velocity over the speed V = 2 R / (5 t) of the
        shock, pressure over rho_0 V^2. Beyond the shock: 1, 0, 0.

    References
    ----------
    Landau & Lifshitz, *Fluid Mechanics*, section 106; the self-similar equations are integrated inwards from
    the strong shock.
    """
    fraction = np.asarray(radius_fraction, dtype=np.float64)
    innermost = 1e-2

    def slopes(place: float, state: np.ndarray) -> list[float]:
        density, velocity, pressure = state
        relative = velocity - place
        velocity_slope = (
            3 - 2 * gamma * velocity / place - 1.5 * relative * velocity * density / pressure
        ) / (gamma - relative**2 * density / pressure)
        density_slope = -density * (velocity_slope + 2 * velocity / place) / relative
        return [density_slope, velocity_slope, density * (1.5 * velocity - relative * velocity_slope)]

    behind_shock = [(gamma + 1) / (gamma - 1), 2 / (gamma + 1), 2 / (gamma + 1)]
    solution = solve_ivp(slopes, (1.0, innermost), behind_shock, rtol=1e-9, atol=1e-14, dense_output=True)
    inside = np.clip(fraction, innermost, 1.0)
    density, velocity, pressure = solution.sol(inside.ravel()).reshape(3, *fraction.shape)
    # Near the centre: velocity in proportion to radius, constant pressure, density as r^(3 / (gamma - 1)).
    density = density * (np.minimum(fraction, innermost) / innermost) ** (3 / (gamma - 1))
    velocity = velocity * np.minimum(fraction, innermost) / innermost
    is_outside = fraction > 1
    return GasProfile(
        np.where(is_outside, 1.0, density),
        np.where(is_outside, 0.0, velocity),
        np.where(is_outside, 0.0, pressure),
    )


def shell_formation_time(hydrogen_density: float, energy_erg: float = 1e51) -> float:
    """When the shock of a supernova has cooled so far that a thin shell forms.

    Parameters
    ----------
    hydrogen_density
        Number density of hydrogen nuclei around the star [cm^-3].
    energy_erg
        Energy of the explosion [erg].

    Returns
    -------
    float
        0.044 Myr E51^0.22 n^-0.55 [Myr].

    References
    ----------
    Kim & Ostriker 2015, ApJ 802, 99, section 2.
    """
    return 0.044 * (energy_erg / 1e51) ** 0.22 * hydrogen_density**-0.55


def shell_formation_radius(hydrogen_density: float, energy_erg: float = 1e51) -> float:
    """Radius of the remnant when its shell forms: 22.6 pc E51^0.29 n^-0.42 [pc].

    Takes what `shell_formation_time` takes; Kim & Ostriker 2015, ApJ 802, 99, section 2.
    """
    return 22.6 * (energy_erg / 1e51) ** 0.29 * hydrogen_density**-0.42


def terminal_momentum(hydrogen_density: float, energy_erg: float = 1e51) -> float:
    """Radial momentum that a supernova gives to the gas in the end: 2.8e5 E51^0.93 n^-0.17 [Msun km/s].

    Takes what `shell_formation_time` takes; Kim & Ostriker 2015, ApJ 802, 99, abstract and
    section 2.
    """
    return 2.8e5 * (energy_erg / 1e51) ** 0.93 * hydrogen_density**-0.17
