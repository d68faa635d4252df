"""What to measure on a supernova remnant: shell, cavity, affected gas, momentum, heat.

Everything takes and gives numpy arrays, densities in Msun/pc^3, lengths in pc, velocities in km/s. Radius,
cavity and affected gas need the density alone, so forecasts of density can be measured as simulations are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mim3d.errors import UserError
from mim3d.supernova.rays import cast_rays
from mim3d.supernova.units import ADIABATIC_INDEX, MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY

AFFECTED_FRACTION = 0.1
"""Gas is affected where its density differs by more than this fraction."""

CAVITY_HYDROGEN_DENSITY = 1.0
"""The cavity is where less than this is left [cm^-3]."""

SMALLEST_DEFICIT = 0.2
"""A ray has a shell if the gas inside lost at least this fraction of its mass."""


def affected_mask(density: np.ndarray, twin_density: np.ndarray) -> np.ndarray:
    """Tell where the explosion changed the density by more than 10 %.

    Parameters
    ----------
    density
        Any shape [Msun/pc^3].
    twin_density
        The same gas without the explosion, at the same time.

    Returns
    -------
    numpy.ndarray
        Boolean, same shape.
    """
    return np.abs(density / twin_density - 1.0) > AFFECTED_FRACTION


def depleted_mask(density: np.ndarray, initial_density: np.ndarray) -> np.ndarray:
    """Tell where the density fell by more than 10 % since before the explosion.

    This is the papers' definition of affected gas (arXiv 2302.00026). Turbulence alone makes some gas fall
    under it; `affected_mask` does not count that, but needs the twin.
    """
    return density < (1.0 - AFFECTED_FRACTION) * initial_density


def cavity_volume(
    density: np.ndarray, box_size: Sequence[float], hydrogen_density: float = CAVITY_HYDROGEN_DENSITY
) -> np.ndarray:
    """Volume with less than 1 hydrogen nucleus per cm^3.

    Parameters
    ----------
    density
        `(..., X, Y, Z)` [Msun/pc^3].
    box_size
        Side lengths [pc].
    hydrogen_density
        The limit [cm^-3].

    Returns
    -------
    numpy.ndarray
        `(...)` [pc^3].
    """
    is_cavity = density < hydrogen_density * MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY
    return np.asarray(is_cavity.mean(axis=(-3, -2, -1)) * float(np.prod(box_size)))


def radial_momentum(
    density: np.ndarray,
    velocity: np.ndarray,
    box_size: Sequence[float],
    site: Sequence[float],
    origin: Sequence[float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Momentum away from the site, summed over the box.

    Parameters
    ----------
    density
        `(..., X, Y, Z)` [Msun/pc^3].
    velocity
        `(..., X, Y, Z, 3)` [km/s].
    box_size, site, origin
        Side lengths, where the star exploded, lower corner of the box [pc].

    Returns
    -------
    numpy.ndarray
        `(...)` [Msun km/s]. In a turbulent cloud the twin's momentum is part of it: subtract it.
    """
    grid = density.shape[-3:]
    offsets = np.meshgrid(
        *(
            low + (np.arange(count) + 0.5) * side / count - position
            for count, side, low, position in zip(grid, box_size, origin, site, strict=True)
        ),
        indexing="ij",
    )
    offset = np.stack(offsets, axis=-1)
    distance = np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-12)
    outward = np.sum(velocity * (offset / distance), axis=-1, dtype=np.float64)
    voxel_volume = float(np.prod(box_size)) / float(np.prod(grid))
    return np.asarray(np.sum(density * outward, axis=(-3, -2, -1), dtype=np.float64) * voxel_volume)


def thermal_energy(pressure: np.ndarray, box_size: Sequence[float]) -> np.ndarray:
    """Heat in the box.

    Parameters
    ----------
    pressure
        `(..., X, Y, Z)` [Msun/pc^3 (km/s)^2].
    box_size
        Side lengths [pc].

    Returns
    -------
    numpy.ndarray
        `(...)` [Msun (km/s)^2]; 1e51 erg are `units.SUPERNOVA_ENERGY`.
    """
    mean = np.mean(pressure, axis=(-3, -2, -1), dtype=np.float64)
    return np.asarray(mean * float(np.prod(box_size)) / (ADIABATIC_INDEX - 1.0))


def shell_radius(
    density: np.ndarray,
    reference: np.ndarray,
    box_size: Sequence[float],
    site: Sequence[float],
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    num_rays: int = 192,
) -> np.ndarray:
    """Radius of the swept-up shell along rays from the site.

    What the explosion took from the cavity lies in the shell. Along every ray, the mass that is missing
    inside a radius (reference minus density, per solid angle) grows through the cavity and falls through the
    shell; the radius of the shell is where it has fallen to half of its peak, that is, the median radius of
    the displaced gas. An integral of the density, it hardly feels turbulence, and the blur of a forecast
    hardly shifts it.

    Parameters
    ----------
    density
        `(X, Y, Z)` [Msun/pc^3].
    reference
        Density without the explosion: of the twin at the same time or, where there is none, of the gas just
        before the explosion `(X, Y, Z)`.
    box_size, site, origin
        Side lengths, where the star exploded, lower corner of the box [pc].
    num_rays
        Rays, spread evenly over the sphere.

    Returns
    -------
    numpy.ndarray
        `(num_rays,)` [pc]; NaN where there is no cavity (yet) or the shell has left the box.
    """
    radii, inside, gas, before = _along_rays(density, reference, box_size, site, origin, num_rays)
    weight = radii**2
    missing = np.cumsum(np.where(inside, (before - gas) * weight, 0.0), axis=1)
    expected = np.cumsum(np.where(inside, before * weight, 0.0), axis=1)
    peak = np.argmax(np.where(inside, missing, -np.inf), axis=1)
    rays = np.arange(num_rays)
    most = missing[rays, peak]
    has_cavity = most > SMALLEST_DEFICIT * expected[rays, peak]

    beyond = (np.arange(len(radii)) > peak[:, None]) & inside & (missing <= 0.5 * most[:, None])
    outer = np.argmax(beyond, axis=1)
    has_shell = has_cavity & beyond.any(axis=1)
    # Cumulative sums belong to the outer edges of the steps.
    step = radii[1] - radii[0]
    above, below = missing[rays, outer - 1], missing[rays, outer]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (above - 0.5 * most) / (above - below)
    return np.where(has_shell, radii[outer] - 0.5 * step + share * step, np.nan)


def mean_shell_radius(radii: np.ndarray) -> float:
    """Mean of the rays that have a shell [pc]; NaN where fewer than half of them have one."""
    known = np.isfinite(radii)
    return float(radii[known].mean()) if known.mean() >= 0.5 else float("nan")


def shock_radius(
    density: np.ndarray,
    reference: np.ndarray,
    box_size: Sequence[float],
    site: Sequence[float],
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    num_rays: int = 192,
) -> float:
    """Radius of the shock: where the density, averaged over the sphere, jumps.

    The outermost radius at which the mean of density / reference falls through half of what its peak stands
    out by. Meant for uniform surroundings; in a turbulent cloud `shell_radius` is the better measure. A layer
    thinner than a voxel is smeared over one, which puts this radius up to 0.4 voxels too far out.

    Takes what `shell_radius` takes.

    Returns
    -------
    float
        [pc]; NaN where there is no shock inside the box.
    """
    radii, inside, gas, before = _along_rays(density, reference, box_size, site, origin, num_rays)
    radii = radii[inside.all(axis=0)]
    profile = gas[:, : len(radii)].mean(axis=0) / before[:, : len(radii)].mean(axis=0)
    half = 1.0 + 0.5 * (profile.max() - 1.0)
    above = np.flatnonzero(profile > half)
    if profile.max() < 1.0 + AFFECTED_FRACTION or above[-1] == len(radii) - 1:
        return float("nan")
    last = above[-1]
    share = (profile[last] - half) / (profile[last] - profile[last + 1])
    return float(radii[last] + share * (radii[last + 1] - radii[last]))


def _along_rays(
    density: np.ndarray,
    reference: np.ndarray,
    box_size: Sequence[float],
    site: Sequence[float],
    origin: Sequence[float],
    num_rays: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Radii `(R,)`, whether they are inside the box, density and reference there, each `(num_rays, R)`."""
    if density.shape != reference.shape or density.ndim != 3:
        raise UserError(f"fields must share one (X, Y, Z) grid, found {density.shape} and {reference.shape}")
    rays = cast_rays(density.shape, box_size, site, origin, num_rays)
    return rays.radii, rays.inside, rays.sample(density), rays.sample(reference)
