"""Fields along rays from the site of an explosion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from mim3d.errors import UserError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

STEPS_PER_VOXEL = 4
"""Places along a ray in the length of a voxel."""


@dataclass(frozen=True)
class Rays:
    """Places along rays, and how to interpolate a field there.

    Parameters
    ----------
    directions
        Unit vectors `(num_rays, 3)`.
    radii
        Distances from the site `(R,)` [pc], every quarter of a voxel, as far as any ray stays in the box.
    inside
        `(num_rays, R)`: whether the place is inside the box.
    weights
        `(num_rays * R, voxels)`: linear interpolation, as a matrix.
    """

    directions: np.ndarray
    radii: np.ndarray
    inside: np.ndarray
    weights: csr_array

    @property
    def step(self) -> float:
        """Distance between two places [pc]."""
        return float(self.radii[1] - self.radii[0])

    def sample(self, field: np.ndarray) -> np.ndarray:
        """Interpolate `(..., X, Y, Z)` linearly; returns `(..., num_rays, R)`, float64."""
        lead = field.shape[:-3]
        flat = np.asarray(field, dtype=np.float64).reshape(-1, int(np.prod(field.shape[-3:])))
        return (self.weights @ flat.T).T.reshape(*lead, *self.inside.shape)


def directions(num_rays: int) -> np.ndarray:
    """Return unit vectors that share the sphere evenly, on a Fibonacci spiral `(num_rays, 3)`.

    References
    ----------
    Gonzalez 2010, Mathematical Geosciences 42, 49.
    """
    index = np.arange(num_rays) + 0.5
    height = 1.0 - 2.0 * index / num_rays
    angle = np.pi * (1.0 + np.sqrt(5.0)) * index
    across = np.sqrt(1.0 - height**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)


def cast_rays(
    grid: Sequence[int],
    box_size: Sequence[float],
    site: Sequence[float],
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    num_rays: int = 192,
) -> Rays:
    """Lay rays, evenly over the sphere, from a site to the border of the box.

    Parameters
    ----------
    grid
        Voxels along each of the three axes.
    box_size, site, origin
        Side lengths, where the star exploded, lower corner of the box [pc].
    num_rays
        How many.

    Raises
    ------
    UserError
        If space has not three axes, or the site is outside the box.
    """
    if len(grid) != 3:
        raise UserError(f"rays are cast on an (X, Y, Z) grid, found {tuple(grid)}")
    place = tuple(tuple(float(x) for x in values) for values in (box_size, site, origin))
    return _cast(tuple(int(count) for count in grid), *place, num_rays)


@lru_cache(maxsize=4)
def _cast(
    grid: tuple[int, ...],
    box_size: tuple[float, ...],
    site: tuple[float, ...],
    origin: tuple[float, ...],
    num_rays: int,
) -> Rays:
    side, low, centre = (np.array(values) for values in (box_size, origin, site))
    if np.any(centre < low) or np.any(centre > low + side):
        raise UserError(
            f"site {tuple(site)} pc is outside the box from {tuple(low)} to {tuple(low + side)} pc"
        )
    voxel = side / np.array(grid)
    step = float(voxel.min()) / STEPS_PER_VOXEL
    radii = (np.arange(int(np.linalg.norm(side) / step)) + 0.5) * step
    ray = directions(num_rays)
    place = centre + radii[None, :, None] * ray[:, None, :]
    inside = np.all((place >= low) & (place <= low + side), axis=-1)
    longest = int(inside.any(axis=0).sum())
    radii, inside, place = radii[:longest], inside[:, :longest], place[:, :longest]

    position = np.clip(((place - low) / voxel - 0.5).reshape(-1, 3), 0, np.array(grid) - 1)
    below = np.minimum(position.astype(int), np.maximum(np.array(grid) - 2, 0))
    share = position - below
    columns, values = [], []
    for corner in product((0, 1), repeat=3):
        index = np.minimum(below + corner, np.array(grid) - 1)
        columns.append(np.ravel_multi_index(tuple(index.T), grid))
        values.append(np.prod(np.where(corner, share, 1 - share), axis=1))
    rows = np.tile(np.arange(len(position)), 8)
    from scipy.sparse import csr_array

    weights = csr_array(
        (np.concatenate(values), (rows, np.concatenate(columns))),
        shape=(len(position), int(np.prod(grid))),
    )
    return Rays(ray, radii, inside, weights)
