"""Gas particles to voxels, mass conserved, and from voxels back to the particles that lie in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova.cooling import temperature_of_theta
from mim3d.supernova.units import ADIABATIC_INDEX

Kernel = Literal["wendland_c2", "cubic_spline"]

NUM_NEIGHBOURS = 32
"""Neighbours within the support of a particle whose smoothing length is not known."""

FILL_NEIGHBOURS = 8
"""Nearest particles that say what is in a voxel that no particle reaches."""

# Particle-voxel pairs that are worked on at a time: some 100 MB of temporary arrays.
_PAIRS_PER_CHUNK = 2_000_000

# Beyond this many voxels of support the kernel is so well sampled that its integral normalises it.
_WELL_SAMPLED = 8


@dataclass(frozen=True)
class Particles:
    """Gas particles (SPH) or cells (moving mesh) at one time.

    Parameters
    ----------
    positions_pc
        `(N, 3)` [pc], physical.
    masses_msun
        `(N,)` [Msun].
    velocities_kms
        `(N, 3)` [km/s], peculiar.
    ids
        `(N,)` integers.
    internal_energies_kms2
        Thermal energy over mass `(N,)` [(km/s)^2], where it is known.
    support_radii_pc
        Radius at which the kernel of each particle ends `(N,)` [pc]; where it is not given, the distance of
        the 32nd neighbour is taken.
    box_size_pc
        Side lengths of the periodic box from the origin [pc]; none where space is open.
    time_myr
        Time of the snapshot [Myr], where it is known.

    Raises
    ------
    UserError
        If shapes do not fit, or a number cannot be: a mass that is not > 0, a position that is not finite.
    """

    positions_pc: np.ndarray
    masses_msun: np.ndarray
    velocities_kms: np.ndarray
    ids: np.ndarray
    internal_energies_kms2: np.ndarray | None = None
    support_radii_pc: np.ndarray | None = None
    box_size_pc: tuple[float, float, float] | None = None
    time_myr: float | None = None

    def __post_init__(self) -> None:
        """Check shapes and numbers."""
        count = len(self.masses_msun)
        if count == 0:
            raise UserError("there are no gas particles")
        shapes = {"positions_pc": (count, 3), "velocities_kms": (count, 3), "ids": (count,)}
        shapes |= {"internal_energies_kms2": (count,), "support_radii_pc": (count,)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise UserError(f"{name} must have shape {shape}, found {values.shape}")
        for name in ("positions_pc", "velocities_kms"):
            _refuse(
                ~np.isfinite(getattr(self, name)).all(axis=1), getattr(self, name), f"{name} must be finite"
            )
        for name in ("masses_msun", "internal_energies_kms2", "support_radii_pc"):
            values = getattr(self, name)
            if values is not None:
                _refuse(~(np.isfinite(values) & (values > 0)), values, f"{name} must be > 0 and finite")

    def __len__(self) -> int:
        """Return the number of particles."""
        return len(self.masses_msun)

    @property
    def temperatures_k(self) -> np.ndarray | None:
        """Temperature of each particle `(N,)` [K], where its internal energy is known."""
        if self.internal_energies_kms2 is None:
            return None
        return temperature_of_theta((ADIABATIC_INDEX - 1) * self.internal_energies_kms2)

    def select(self, which: np.ndarray) -> Particles:
        """Return the particles of a boolean mask, or of indices, `which`."""
        return replace(
            self,
            positions_pc=self.positions_pc[which],
            masses_msun=self.masses_msun[which],
            velocities_kms=self.velocities_kms[which],
            ids=self.ids[which],
            internal_energies_kms2=_pick(self.internal_energies_kms2, which),
            support_radii_pc=_pick(self.support_radii_pc, which),
        )


def _pick(values: np.ndarray | None, which: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[which]


def _refuse(is_bad: np.ndarray, values: np.ndarray, rule: str) -> None:
    if is_bad.any():
        first = int(np.argmax(is_bad))
        raise UserError(f"{rule}, found {values[first]} at particle {first} ({int(is_bad.sum())} in all)")


def wendland_c2(fraction: np.ndarray) -> np.ndarray:
    """Wendland C2 kernel in 3-D at radius over support radius, times the support radius cubed.

    References
    ----------
    Dehnen & Aly 2012, MNRAS 425, 1068, table 1.
    """
    rest = np.maximum(1.0 - fraction, 0.0)
    return 21.0 / (2.0 * np.pi) * rest**4 * (1.0 + 4.0 * fraction)


def cubic_spline(fraction: np.ndarray) -> np.ndarray:
    """Cubic spline kernel in 3-D at radius over support radius, times the support radius cubed.

    References
    ----------
    Dehnen & Aly 2012, MNRAS 425, 1068, table 1.
    """
    rest, inner = np.maximum(1.0 - fraction, 0.0), np.maximum(0.5 - fraction, 0.0)
    return 16.0 / np.pi * (rest**3 - 4.0 * inner**3)


KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "wendland_c2": wendland_c2,
    "cubic_spline": cubic_spline,
}


def neighbour_radii(
    positions_pc: np.ndarray,
    num_neighbours: int = NUM_NEIGHBOURS,
    box_size_pc: Sequence[float] | None = None,
) -> np.ndarray:
    """Distance of each particle's `num_neighbours`-th neighbour, itself counted.

    Parameters
    ----------
    positions_pc
        `(N, 3)` [pc].
    num_neighbours
        Which neighbour; the farthest where there are fewer particles.
    box_size_pc
        Side lengths of the periodic box, if it is one [pc].

    Returns
    -------
    numpy.ndarray
        `(N,)` [pc].
    """
    if len(positions_pc) < 2:
        raise UserError("one particle alone has no neighbours: give its support radius")
    if box_size_pc is not None:
        positions_pc = np.mod(positions_pc, box_size_pc)
    from scipy.spatial import KDTree

    tree = KDTree(positions_pc, boxsize=box_size_pc)
    distance, _ = tree.query(positions_pc, k=min(num_neighbours, len(positions_pc)))
    radii = distance[:, -1]
    # Particles in one place have no distance; what is smaller than a voxel makes no difference anyway.
    return np.maximum(radii, 1e-9 * max(float(np.ptp(positions_pc)), 1e-30))


def deposit(
    particles: Particles,
    center: Sequence[float],
    box_size: float | Sequence[float],
    grid: int | Sequence[int],
    kernel: Kernel = "wendland_c2",
) -> Trajectory:
    """Put gas particles on voxels.

    Every particle's mass is shared out over the voxels within its support, in proportion to its kernel at
    their centres, so that the shares add up to its mass; the part that falls outside the box is left out, and
    particles outside the box whose kernels reach in are counted. Particles with a support of less than a
    voxel are shared over the 8 nearest voxels (cloud in cell). Momentum and thermal energy are shared out in
    the same way, so that velocity is mass-weighted and energy conserved.

    A voxel that no particle reaches takes density, velocity and thermal energy of its 8 nearest particles:
    their mass over the sphere that holds them. That adds a little mass; `parameters["filled_voxels"]` counts
    such voxels and `parameters["filled_mass"]` the mass in them.

    Parameters
    ----------
    particles
        The gas.
    center
        Centre of the box, and the explosion's site [pc].
    box_size
        Side length of the box, or one an axis [pc].
    grid
        Voxels along each axis, or one number an axis.
    kernel
        `"wendland_c2"` or `"cubic_spline"`.

    Returns
    -------
    Trajectory
        One frame: density [Msun/pc^3], velocity [km/s] and, where internal energies are known, pressure
        [Msun/pc^3 (km/s)^2] and temperature [K].

    Raises
    ------
    UserError
        If the box is larger than the particles' periodic box, or holds no particle.
    """
    if kernel not in KERNELS:
        raise UserError(f"kernel must be one of {', '.join(KERNELS)}, found {kernel!r}")
    side, voxels, low = _geometry(center, box_size, grid)
    offsets = _offsets(particles, center, side)
    inside = np.all(np.abs(offsets) <= side / 2, axis=1)
    if not inside.any():
        nearest, farthest = particles.positions_pc.min(axis=0), particles.positions_pc.max(axis=0)
        raise UserError(
            f"no gas particle in the box of {tuple(side)} pc around {tuple(map(float, center))} pc; "
            f"they lie between {tuple(nearest.round(3))} and {tuple(farthest.round(3))} pc"
        )
    support = particles.support_radii_pc
    if support is None:
        # Neighbours are needed where kernels can reach the box, and that is not far.
        near = np.all(np.abs(offsets) <= 0.75 * side, axis=1)
        particles, offsets = particles.select(near), offsets[near]
        support = neighbour_radii(offsets)
    voxel = side / voxels
    images = _images(offsets, support, side, particles.box_size_pc, voxel)
    which, places = (np.concatenate(parts) for parts in zip(*images, strict=True))

    has_heat = particles.internal_energies_kms2 is not None
    mass = particles.masses_msun
    carried = [mass, *(mass * velocity for velocity in particles.velocities_kms.T)]
    if particles.internal_energies_kms2 is not None:
        carried.append(mass * particles.internal_energies_kms2)
    amounts = np.stack(carried, axis=1).astype(np.float64)

    sums = np.zeros((len(carried), int(voxels.prod())))
    coordinates = (places + side / 2) / voxel
    for index, weight, of in _shares(coordinates, support[which], voxel, voxels, KERNELS[kernel]):
        for total, amount in zip(sums, amounts[which[of]].T, strict=True):
            total += np.bincount(index, weights=weight * amount, minlength=len(total))
    density = sums[0] / float(voxel.prod())

    # Shares this small are rounding at the edge of a kernel, not gas.
    empty = sums[0] <= 1e-12 * sums[0].max()
    if empty.any():
        centres = np.stack(np.unravel_index(np.flatnonzero(empty), tuple(voxels)), axis=1)
        centres = (centres + 0.5) * voxel - side / 2
        from scipy.spatial import KDTree

        tree = KDTree(places)
        distance, near_by = tree.query(centres, k=min(FILL_NEIGHBOURS, len(places)))
        distance, near_by = distance.reshape(len(centres), -1), near_by.reshape(len(centres), -1)
        found = amounts[which[near_by]].sum(axis=1)
        radius = np.maximum(distance[:, -1], 0.5 * voxel.min())
        density[empty] = found[:, 0] / (4 / 3 * np.pi * radius**3)
        sums[:, empty] = found.T

    fields = {
        "density": density,
        "velocity": np.moveaxis(sums[1:4] / sums[0], 0, -1),
    }
    units: dict[str, u.UnitBase] = {"density": u.Msun / u.pc**3, "velocity": u.km / u.s}
    if has_heat:
        theta = (ADIABATIC_INDEX - 1) * sums[4] / sums[0]
        fields |= {"pressure": density * theta, "temperature": temperature_of_theta(theta)}
        units |= {"pressure": units["density"] * units["velocity"] ** 2, "temperature": u.K}
    shape = (1, *(int(count) for count in voxels))
    return Trajectory(
        fields={
            name: values.reshape(*shape, *values.shape[1:]).astype(np.float32)
            for name, values in fields.items()
        },
        units=units,
        times=np.array([particles.time_myr or 0.0]),
        box_size=tuple(map(float, side)),
        origin=tuple(map(float, low)),
        site=tuple(map(float, center)),
        parameters={
            "filled_voxels": u.Quantity(int(empty.sum())),
            "filled_mass": float(density[empty].sum() * voxel.prod()) * u.Msun,
        },
    )


def particles_in(
    mask: np.ndarray, particles: Particles, center: Sequence[float], box_size: float | Sequence[float]
) -> np.ndarray:
    """Find the particles whose positions lie in the voxels of a mask.

    Parameters
    ----------
    mask
        `(X, Y, Z)` boolean, for instance the affected voxels.
    particles
        The gas that the voxels were made from.
    center, box_size
        Of the box, as given to `deposit` [pc].

    Returns
    -------
    numpy.ndarray
        Their ids, in the order of the particles.
    """
    if mask.ndim != 3:
        raise UserError(f"mask must be (X, Y, Z), found shape {mask.shape}")
    side, voxels, _ = _geometry(center, box_size, mask.shape)
    index = np.floor((_offsets(particles, center, side) + side / 2) / (side / voxels)).astype(np.int64)
    inside = np.all((index >= 0) & (index < voxels), axis=1)
    hit = np.zeros(len(particles), dtype=bool)
    hit[inside] = mask.astype(bool)[tuple(index[inside].T)]
    return particles.ids[hit]


def _geometry(
    center: Sequence[float], box_size: float | Sequence[float], grid: int | Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Side lengths, voxels and lower corner, one an axis."""
    middle = np.asarray(center, dtype=np.float64)
    if middle.shape != (3,) or not np.isfinite(middle).all():
        raise UserError(f"center must be three finite coordinates in pc, found {center}")
    side = np.broadcast_to(np.asarray(box_size, dtype=np.float64), (3,))
    voxels = np.broadcast_to(np.asarray(grid, dtype=np.int64), (3,))
    if not (np.isfinite(side).all() and (side > 0).all()):
        raise UserError(f"box_size must be > 0 pc, found {box_size}")
    if (voxels < 1).any():
        raise UserError(f"grid must be at least 1 along every axis, found {grid}")
    return side, voxels, middle - side / 2


def _offsets(particles: Particles, center: Sequence[float], side: np.ndarray) -> np.ndarray:
    """Positions relative to the centre, of the nearest periodic image `(N, 3)` [pc]."""
    offsets = particles.positions_pc - np.asarray(center, dtype=np.float64)
    if particles.box_size_pc is None:
        return offsets
    period = np.asarray(particles.box_size_pc)
    if (side > period * (1 + 1e-6)).any():
        raise UserError(
            f"the box of {tuple(map(float, side))} pc is larger than the snapshot's, "
            f"{tuple(map(float, period))} pc"
        )
    return offsets - period * np.round(offsets / period)


def _images(
    offsets: np.ndarray,
    support: np.ndarray,
    side: np.ndarray,
    period: Sequence[float] | None,
    voxel: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find the particles, and periodic images of them, whose kernels reach the box: indices and offsets."""
    reach = side / 2 + np.maximum(support[:, None], voxel)
    shifts = [(0.0,)] * 3 if period is None else [(-length, 0.0, length) for length in period]
    for shift in itertools.product(*shifts):
        places = offsets + np.array(shift)
        which = np.flatnonzero(np.all(np.abs(places) < reach, axis=1))
        yield which, places[which]


def _shares(
    coordinates: np.ndarray,
    support: np.ndarray,
    voxel: np.ndarray,
    voxels: np.ndarray,
    kernel: Callable[[np.ndarray], np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Share particles out over voxels.

    Parameters
    ----------
    coordinates
        `(N, 3)` from the lower corner, in voxels.
    support
        Support radii `(N,)` [pc].

    Yields
    ------
    index, weight, particle
        Flat indices of voxels, shares of mass, indices of particles; all of one length.
    """
    width = np.ceil(support / voxel.min()).astype(np.int64)
    is_small = support < voxel.max()
    for width_now in np.unique(np.where(is_small, 0, width)):
        members = np.flatnonzero((width == width_now) & ~is_small if width_now else is_small)
        if width_now > _WELL_SAMPLED:
            for particle in members:
                yield _wide_share(int(particle), coordinates, support, voxel, voxels, kernel)
            continue
        stencil = np.arange(-width_now, width_now + 1) if width_now else np.arange(2)
        chunk = max(1, _PAIRS_PER_CHUNK // len(stencil) ** 3)
        for start in range(0, len(members), chunk):
            now = members[start : start + chunk]
            first = np.floor(coordinates[now] - (0.0 if width_now else 0.5)).astype(np.int64)
            cells = first[:, None, :] + stencil[None, :, None]
            offset = cells + 0.5 - coordinates[now][:, None, :]
            if width_now:
                square = (offset * voxel) ** 2
                square = (
                    square[:, :, None, None, 0] + square[:, None, :, None, 1] + square[:, None, None, :, 2]
                )
                weight = kernel(np.sqrt(square) / support[now][:, None, None, None])
            else:
                line = 1.0 - np.abs(offset)
                weight = line[:, :, None, None, 0] * line[:, None, :, None, 1] * line[:, None, None, :, 2]
            weight /= weight.sum(axis=(1, 2, 3), keepdims=True)
            valid = (cells >= 0) & (cells < voxels)
            keep = valid[:, :, None, None, 0] & valid[:, None, :, None, 1] & valid[:, None, None, :, 2]
            keep &= weight > 0
            flat = (cells[:, :, None, None, 0] * voxels[1] + cells[:, None, :, None, 1]) * voxels[2]
            flat = flat + cells[:, None, None, :, 2]
            of = np.broadcast_to(now[:, None, None, None], keep.shape)
            yield flat[keep], weight[keep], of[keep]


def _wide_share(
    particle: int,
    coordinates: np.ndarray,
    support: np.ndarray,
    voxel: np.ndarray,
    voxels: np.ndarray,
    kernel: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share out one particle that covers many voxels, looking only at those in the box."""
    place, radius = coordinates[particle], support[particle]
    low = np.maximum(np.floor(place - radius / voxel), 0).astype(np.int64)
    high = np.minimum(np.ceil(place + radius / voxel), voxels).astype(np.int64)
    axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    squares = [
        ((cells + 0.5 - position) * width) ** 2
        for cells, position, width in zip(axes, place, voxel, strict=True)
    ]
    square = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
    weight = kernel(np.sqrt(square) / radius) * float(voxel.prod()) / radius**3
    flat = (axes[0][:, None, None] * voxels[1] + axes[1][None, :, None]) * voxels[2] + axes[2][None, None, :]
    keep = weight > 0
    count = int(keep.sum())
    return flat[keep], weight[keep], np.full(count, particle)
