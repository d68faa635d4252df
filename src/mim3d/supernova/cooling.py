"""Radiative cooling of optically thin gas, integrated exactly over a time step of any length."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mim3d.errors import UserError
from mim3d.supernova.emissivity import CoolingTable, emissivity
from mim3d.supernova.units import (
    ADIABATIC_INDEX,
    CM_PER_KM,
    HYDROGEN_MASS_FRACTION,
    MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY,
    MEAN_MOLECULAR_WEIGHT_IONISED,
    MEAN_MOLECULAR_WEIGHT_NEUTRAL,
    PROTON_MASS_GRAM,
    SECONDS_PER_MYR,
    THETA_PER_KELVIN,
)

Array = TypeVar("Array", np.ndarray, Tensor)

LOWEST_TEMPERATURE = 10.0
HIGHEST_TEMPERATURE = 1.0e9
NUM_NODES = 1025
FINE_NODES = 32 * (NUM_NODES - 1) + 1

# Hydrogen is taken to become ionised between these temperatures [K].
_NEUTRAL_BELOW = 8.0e3
_IONISED_ABOVE = 2.0e4


def theta_of_temperature(temperature: Array) -> Array:
    """P / rho [(km/s)^2] of gas at a temperature [K]; arrays in double precision, tensors in their own.

    The mean molecular weight falls from 1.27 (neutral, below 8000 K) to 0.61 (ionised, above 20 000 K) along
    a smooth step in log T, so that P / rho rises monotonically with the temperature.
    """
    library: Any = torch if isinstance(temperature, torch.Tensor) else np
    kelvin: Any = temperature if library is torch else np.asarray(temperature, dtype=np.float64)
    span = math.log(_IONISED_ABOVE / _NEUTRAL_BELOW)
    step = library.clip(library.log(kelvin / _NEUTRAL_BELOW) / span, 0.0, 1.0)
    step = step * step * (3.0 - 2.0 * step)
    neutral, ionised = 1.0 / MEAN_MOLECULAR_WEIGHT_NEUTRAL, 1.0 / MEAN_MOLECULAR_WEIGHT_IONISED
    return THETA_PER_KELVIN * kelvin * (neutral + (ionised - neutral) * step)


def temperature_of_theta(theta: np.ndarray) -> np.ndarray:
    """Temperature [K] of gas with P / rho = `theta` [(km/s)^2]; the inverse of `theta_of_temperature`."""
    log_kelvin = np.linspace(math.log(1e-2), math.log(100 * HIGHEST_TEMPERATURE), FINE_NODES)
    log_theta = np.log(theta_of_temperature(np.exp(log_kelvin)))
    return np.exp(np.interp(np.log(np.asarray(theta, dtype=np.float64)), log_theta, log_kelvin))


class CoolingCurve(torch.nn.Module):
    """Cooling of optically thin gas at constant density, exact for time steps of any length.

    The state of the gas is `theta` = P / rho [(km/s)^2]; `theta_of_temperature` and `temperature` convert.
    The curve of `emissivity` is taken as a power law between 1025 nodes, even in log theta; of a power law
    the time that the gas needs from one temperature to another is known in closed form, and so is its
    temperature after any time (Townsend 2009). No step is too long, and every step lands on the true
    solution.

    The module holds tables only, no parameters; `.to(device)` moves them. All methods take tensors of any
    shape and floating type and can be compiled without a graph break.

    Parameters
    ----------
    temperature_floor
        Temperature [K] below which gas doesn't cool, from 10 K to 1e5 K. The default, 100 K, stands for the
        balance of cooling with photoelectric heating that holds the papers' cloud at 100 K: there is no
        heating term. Gas at or below the floor is left as it is, never heated.
    table
        Which table of line and continuum emission to use, see `emissivity`.

    Raises
    ------
    UserError
        If the floor lies outside 10 K to 1e5 K.

    References
    ----------
    Townsend 2009, ApJS 181, 391, eqs. 24-26 and A5-A7.
    """

    _node_log_temperature: Tensor
    _grid: Tensor
    _node_time: Tensor
    _node_scale: Tensor
    _node_exponent: Tensor

    def __init__(self, temperature_floor: float = 100.0, table: CoolingTable = "gnat2007") -> None:
        super().__init__()
        if not LOWEST_TEMPERATURE <= temperature_floor <= 1.0e5:
            raise UserError(f"temperature_floor must lie in 10 to 1e5 K, found {temperature_floor}")
        self.temperature_floor = float(temperature_floor)
        self.theta_floor = float(theta_of_temperature(np.array(temperature_floor)))
        # The grid starts at the floor, so the time that is left until the gas reaches it is zero there.
        top = math.log(float(theta_of_temperature(np.array(HIGHEST_TEMPERATURE))))
        log_theta = np.linspace(math.log(self.theta_floor), top, NUM_NODES)
        spacing = float(log_theta[1] - log_theta[0])
        fine = np.linspace(log_theta[0], top, FINE_NODES)
        log_kelvin = np.linspace(
            math.log(LOWEST_TEMPERATURE / 2), math.log(2 * HIGHEST_TEMPERATURE), FINE_NODES
        )
        fine_log_kelvin = np.interp(fine, np.log(theta_of_temperature(np.exp(log_kelvin))), log_kelvin)
        fine_log_rate = np.log(_cooling_rate(np.exp(fine_log_kelvin), table))
        every = (FINE_NODES - 1) // (NUM_NODES - 1)
        log_temperature, log_rate = fine_log_kelvin[::every], fine_log_rate[::every]

        # Time that is left until the gas reaches the floor, summed from the floor upwards: cold gas has
        # little of it, and that little must not drown in what hot gas has.
        summed = torch.cumulative_trapezoid(*map(torch.from_numpy, (np.exp(fine - fine_log_rate), fine)))
        time = np.concatenate(([0.0], summed.numpy()))[::every]

        # Between nodes it goes as theta^(1 - a) where the rate goes as theta^a, through its values at the
        # nodes. The exponent is never exactly zero, so that one formula serves all (expm1 and log1p keep it
        # accurate).
        exponent = 1.0 - np.diff(log_rate) / spacing
        exponent = np.where(np.abs(exponent) < 1e-6, 1e-6, exponent)
        scale = np.diff(time) * exponent / np.expm1(exponent * spacing)
        tables = {
            "_grid": np.array([log_theta[0], spacing, self.theta_floor]),
            "_node_log_temperature": log_temperature,
            "_node_time": time,
            "_node_scale": scale,
            "_node_exponent": exponent,
        }
        for name, values in tables.items():
            self.register_buffer(name, torch.from_numpy(values.copy()), persistent=False)

    def temperature(self, theta: Tensor) -> Tensor:
        """Temperature [K] of gas with P / rho = `theta` [(km/s)^2].

        The inverse of `theta_of_temperature`, to 3e-4.

        Below the floor and above 1e9 K theta is taken to be proportional to the temperature.
        """
        first, spacing, _ = self._grid.to(theta.dtype).unbind()
        position = (torch.log(theta) - first) / spacing
        index = position.clamp(0, NUM_NODES - 2).to(torch.long)
        low = self._node_log_temperature[index].to(theta.dtype)
        high = self._node_log_temperature[index + 1].to(theta.dtype)
        fraction = position - index.to(theta.dtype)
        inside = low + (high - low) * fraction
        below = self._node_log_temperature[0].to(theta.dtype) + position * spacing
        return torch.exp(torch.where(position < 0, below, inside))

    def cooling_time(self, theta: Tensor, density: Tensor) -> Tensor:
        """Thermal energy over the rate at which it is radiated [Myr].

        Parameters
        ----------
        theta
            P / rho [(km/s)^2].
        density
            Mass density [Msun/pc^3], of a shape that broadcasts with `theta`.
        """
        _, scale, _, growth = _locate(theta, *self.tables)
        return scale * (1.0 + growth) * (MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY / density)

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `cool` looks up, for the function of that name in this module."""
        return self._grid, self._node_time, self._node_scale, self._node_exponent

    def cool(self, theta: Tensor, density: Tensor, dt_myr: Tensor | float) -> Tensor:
        """P / rho after the gas has radiated for a while at constant density.

        Parameters
        ----------
        theta
            P / rho before [(km/s)^2], > 0.
        density
            Mass density [Msun/pc^3].
        dt_myr
            Length of the step [Myr], >= 0; a number or a tensor. All three broadcast.

        Returns
        -------
        Tensor
            P / rho after [(km/s)^2], never more than before and never below the floor (unless it was before).
        """
        return cool(theta, density, dt_myr, *self.tables)


def cool(
    theta: Tensor,
    density: Tensor,
    dt_myr: Tensor | float,
    grid: Tensor,
    node_time: Tensor,
    node_scale: Tensor,
    node_exponent: Tensor,
) -> Tensor:
    """P / rho after the gas has radiated for a while: `CoolingCurve.cool` as a function of tensors alone.

    Parameters
    ----------
    theta, density, dt_myr
        As there.
    grid, node_time, node_scale, node_exponent
        `CoolingCurve.tables`.
    """
    start, scale, exponent, growth = _locate(theta, grid, node_time, node_scale, node_exponent)
    _, spacing, floor = grid.to(theta.dtype).unbind()
    elapsed = density * (dt_myr / MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY)

    # Double precision for this one difference: the time left at 1e5 K is mostly spent at 1e3 K.
    left = start + (scale * growth / exponent).to(torch.float64) - elapsed.to(torch.float64)
    index = (torch.searchsorted(node_time, left, right=True) - 1).clamp(0, NUM_NODES - 2)
    exponent_after = node_exponent[index].to(theta.dtype)
    inside = ((left - node_time[index]) / node_scale[index]).to(theta.dtype)
    log_theta = index.to(theta.dtype) * spacing + torch.log1p(exponent_after * inside) / exponent_after
    after = torch.where(left > 0, floor * torch.exp(log_theta), floor)

    # A short step is a small difference: take it as such, or rounding would cool hot gas for nothing.
    fraction = elapsed / (scale * (1.0 + growth))
    short = theta * (1.0 - fraction * (1.0 - 0.5 * (1.0 - exponent) * fraction))
    after = torch.where(fraction < 1e-3, short, after)
    return torch.where(theta > floor, after.clamp(min=floor).minimum(theta), theta)


def _locate(
    theta: Tensor, grid: Tensor, node_time: Tensor, node_scale: Tensor, node_exponent: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Time left at the node below, and scale, exponent and (theta / theta_node)^exponent - 1."""
    first, spacing, _ = grid.to(theta.dtype).unbind()
    position = ((torch.log(theta) - first) / spacing).clamp(min=0.0)
    # What is not a number stays that, but finds its place in the tables.
    index = position.clamp(max=NUM_NODES - 2).nan_to_num(0.0).to(torch.long)
    exponent = node_exponent[index].to(theta.dtype)
    growth = torch.expm1(exponent * ((position - index.to(theta.dtype)) * spacing))
    return node_time[index], node_scale[index].to(theta.dtype), exponent, growth


def _cooling_rate(temperature: np.ndarray, table: CoolingTable) -> np.ndarray:
    """-d theta / dt for n_H = 1 cm^-3 [(km/s)^2/Myr]; it is proportional to n_H."""
    per_gram = emissivity(temperature, table) * HYDROGEN_MASS_FRACTION / PROTON_MASS_GRAM
    return (ADIABATIC_INDEX - 1.0) * per_gram * SECONDS_PER_MYR / CM_PER_KM**2
