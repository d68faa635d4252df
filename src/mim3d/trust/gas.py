"""Gas before an explosion in a few numbers, the same however the box is turned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from astropy import units as u

from mim3d.fields import Trajectory
from mim3d.supernova.cooling import theta_of_temperature
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY

SHELL_EDGES_PC = (0.0, 4.0, 8.0, 12.0, 16.0, 22.0, 30.0)
"""Radii around the site between which gas is averaged [pc]."""


class Quantity(NamedTuple):
    """What a number is, and how finely it matters."""

    unit: str
    is_logarithmic: bool
    tolerance: float
    """Difference that is always allowed: in dex where logarithmic, in the unit else."""


QUANTITIES = {
    "density": Quantity("cm^-3", True, 0.02),
    "density at the site": Quantity("cm^-3", True, 0.05),
    "density contrast": Quantity("dex", False, 0.02),
    "temperature": Quantity("K", True, 0.05),
    "highest temperature": Quantity("K", True, 0.1),
    "velocity spread": Quantity("km/s", True, 0.05),
    "bulk velocity": Quantity("km/s", False, 0.5),
    "Mach number": Quantity("", True, 0.05),
    "energy of the explosion": Quantity("erg", True, 0.02),
    "number of explosions": Quantity("", False, 0.1),
    "distance of the site from the centre": Quantity("pc", False, 1.0),
    "side of the box": Quantity("pc", True, 0.005),
    "size of a voxel": Quantity("pc", True, 0.005),
}
"""Numbers that a guard holds against the range of those trained on."""


@dataclass(frozen=True)
class GasDescription:
    """Gas before an explosion.

    Parameters
    ----------
    quantities
        Some of `QUANTITIES`, in their units: what is known.
    features
        By name, numbers of order one: means and spreads of log10 density (and velocity) in shells around the
        site.
    """

    quantities: dict[str, float]
    features: dict[str, float]


def describe_gas(trajectory: Trajectory, fields: Collection[str] = ("density",)) -> GasDescription | None:
    """Describe the last frame of a trajectory.

    Parameters
    ----------
    trajectory
        The gas, with its site and, where they are known, `explosion_energy` and `explosions` among its
        parameters.
    fields
        Fields whose features are wanted; quantities are taken of all fields that are there.

    Returns
    -------
    GasDescription or None
        None where there is no density of gas in a box with lengths: images, for instance.
    """
    density = _in(trajectory, "density", u.Msun / u.pc**3)
    if density is None or not trajectory.length_unit.is_equivalent(u.pc) or not (density > 0).all():
        return None
    to_pc = float(trajectory.length_unit.to(u.pc))  # pyright: ignore[reportArgumentType]
    number = density / MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY
    logarithm = np.log10(number)
    offsets = _offsets(trajectory, to_pc)
    distance = np.sqrt(sum(x**2 for x in offsets))
    shells = [(distance >= inner) & (distance < outer) for inner, outer in pairwise(SHELL_EDGES_PC)]
    nearest = distance <= max(SHELL_EDGES_PC[1], float(distance.min()))
    half = [low + side / 2 for low, side in zip(trajectory.origin, trajectory.box_size, strict=True)]
    quantities = {
        "density": float(number.mean()),
        "density at the site": float(10 ** logarithm[nearest].mean()),
        "density contrast": float(logarithm.std()),
        "distance of the site from the centre": to_pc
        * float(np.linalg.norm(np.subtract(trajectory.site, half))),
        "side of the box": to_pc * max(trajectory.box_size),
        "size of a voxel": to_pc * max(trajectory.voxel_size),
    }
    features = {
        "log density, 1 %": float(np.quantile(logarithm, 0.01)),
        "log density, 99 %": float(np.quantile(logarithm, 0.99)),
        **_in_shells("log density", logarithm, shells),
    }
    quantities |= _heat_and_motion(trajectory, density)
    velocity = _in(trajectory, "velocity", u.km / u.s)
    if velocity is not None and "velocity" in fields:
        speed = np.linalg.norm(velocity - velocity.mean(axis=tuple(range(velocity.ndim - 1))), axis=-1)
        outward = sum(velocity[..., axis] * x for axis, x in enumerate(offsets)) / np.maximum(distance, 1e-9)
        features |= _in_shells("speed", np.arcsinh(speed), shells, spread=False)
        features |= _in_shells("outward velocity", np.arcsinh(np.asarray(outward)), shells, spread=False)
    for name, parameter, unit, usual in (
        ("energy of the explosion", "explosion_energy", u.erg, np.nan),
        # One star, unless the file says otherwise.
        ("number of explosions", "explosions", u.dimensionless_unscaled, 1.0),
    ):
        value = u.Quantity(trajectory.parameters.get(parameter, usual))
        if value.unit is not None and value.unit.is_equivalent(unit):
            quantities[name] = float(value.to_value(unit))  # pyright: ignore[reportArgumentType]
        elif value.unit == u.dimensionless_unscaled:
            quantities[name] = float(value.value)  # pyright: ignore[reportArgumentType]
    return GasDescription(
        {name: value for name, value in quantities.items() if np.isfinite(value)},
        {name: value for name, value in features.items() if np.isfinite(value)},
    )


def _heat_and_motion(trajectory: Trajectory, density: np.ndarray) -> dict[str, float]:
    quantities: dict[str, float] = {}
    temperature = _in(trajectory, "temperature", u.K)
    mean_temperature = np.nan
    if temperature is not None and (temperature > 0).all():
        mean_temperature = float(10 ** np.average(np.log10(temperature), weights=density))
        quantities["temperature"] = mean_temperature
        quantities["highest temperature"] = float(temperature.max())
    velocity = _in(trajectory, "velocity", u.km / u.s)
    if velocity is not None:
        bulk = velocity.mean(axis=tuple(range(velocity.ndim - 1)))
        spread = float(np.sqrt(np.square(velocity - bulk).sum(axis=-1).mean()))
        quantities["bulk velocity"] = float(np.linalg.norm(bulk))
        # Gas at rest has no logarithm: a metre per second is rest.
        quantities["velocity spread"] = max(spread, 1e-3)
        if np.isfinite(mean_temperature):
            sound = float(np.sqrt(theta_of_temperature(np.array(mean_temperature))))
            quantities["Mach number"] = max(spread, 1e-3) / sound
    return quantities


def _in(trajectory: Trajectory, name: str, unit: u.UnitBase) -> np.ndarray | None:
    """Return the last frame of a field in a unit; None where there is none, or it measures something else."""
    if name not in trajectory.fields or not trajectory.units[name].is_equivalent(unit):
        return None
    factor = float(trajectory.units[name].to(unit))  # pyright: ignore[reportArgumentType]
    values = np.asarray(trajectory.fields[name][-1], dtype=np.float64) * factor
    return values if np.isfinite(values).all() else None


def _offsets(trajectory: Trajectory, to_pc: float) -> list[np.ndarray]:
    """Coordinates of the voxels' centres from the site, one array `(*space)` an axis [pc]."""
    centres = [
        to_pc * (low + (np.arange(count) + 0.5) * side / count - position)
        for count, side, low, position in zip(
            trajectory.grid, trajectory.box_size, trajectory.origin, trajectory.site, strict=True
        )
    ]
    return list(np.meshgrid(*centres, indexing="ij"))


def _in_shells(
    name: str, values: np.ndarray, shells: list[np.ndarray], *, spread: bool = True
) -> dict[str, float]:
    features = {}
    for outer, shell in zip(SHELL_EDGES_PC[1:], shells, strict=True):
        if shell.any():
            features[f"{name}, to {outer:g} pc"] = float(values[shell].mean())
            if spread:
                features[f"spread of {name}, to {outer:g} pc"] = float(values[shell].std())
    return features
