"""The radius of a shell, measured so that simulations and forecasts can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates

from mim3d.supernova.shell import directions

CAVITY_RATIO = 0.5
"""A ray is in the cavity while less than this part of the density before the explosion is left."""

_STEPS_PER_VOXEL = 4
_WINDOW_VOXELS = 4


def stacked_shell_radius(
    density: np.ndarray,
    before: np.ndarray,
    box_size: Sequence[float],
    site: Sequence[float],
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    num_rays: int = 192,
) -> float:
    """Mean radius at which gas is compressed most, over rays from the site.

    Every ray is followed from the site through the cavity to its wall. The ratio of density to the density
    before the explosion is then averaged over rays at equal distances behind their walls; the shell is where
    this profile peaks, that far behind the mean wall. The average over rays takes out turbulence, and nothing
    depends on mass being conserved along a ray, as `mim3d.supernova.shell.shell_radius` does: a forecast,
    which is smoother than the truth and need not conserve mass, is measured in the same way as a simulation.
    In simulated clouds of 32^3 voxels in 60 pc it gives 0.45 pc less than that, with a scatter of 0.1 pc.

    Parameters
    ----------
    density, before
        `(X, Y, Z)`, at the time and before the explosion, in one unit.
    box_size, site, origin
        Side lengths, where the star exploded, lower corner of the box [pc].
    num_rays
        Rays, spread evenly over the sphere.

    Returns
    -------
    float
        [pc]; NaN where fewer than half of the rays have a cavity with a wall inside the box.
    """
    side, low, center = (np.asarray(values, dtype=np.float64) for values in (box_size, origin, site))
    voxel = side / density.shape
    step = float(voxel.min()) / _STEPS_PER_VOXEL
    window = _WINDOW_VOXELS * _STEPS_PER_VOXEL
    radii = (np.arange(int(np.linalg.norm(side) / step)) + 0.5) * step
    places = center + radii[None, :, None] * directions(num_rays)[:, None, :]
    inside = np.all((places >= low) & (places <= low + side), axis=-1)
    index = np.moveaxis((places - low) / voxel - 0.5, -1, 0)
    gas, reference = (
        map_coordinates(values.astype(np.float64), index, order=1, mode="nearest", prefilter=False)
        for values in (density, before)
    )
    ratio = np.where(inside, gas / reference, np.nan)

    # The cavity starts near the site: the voxel of the site itself may be odd.
    is_thin = ratio < CAVITY_RATIO
    near = is_thin[:, : 2 * _STEPS_PER_VOXEL]
    start = near.argmax(axis=1)
    beyond = (np.arange(len(radii)) >= start[:, None]) & (ratio >= CAVITY_RATIO)
    wall = beyond.argmax(axis=1)
    has_wall = near.any(axis=1) & beyond.any(axis=1)
    if has_wall.mean() < 0.5:
        return float("nan")
    behind = wall[has_wall, None] + np.arange(window)
    rays = np.flatnonzero(has_wall)[:, None]
    samples = np.where(behind < len(radii), ratio[rays, np.minimum(behind, len(radii) - 1)], np.nan)
    known = np.isfinite(samples)
    profile = np.where(known, samples, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return float(radii[wall[has_wall]].mean() + step * _peak(profile))


def _peak(values: np.ndarray) -> float:
    """Place of the first peak, between samples by the parabola through it and its neighbours.

    Small ones, below half of the largest, do not count.
    """
    middle = values[1:-1]
    is_peak = (middle >= values[:-2]) & (middle > values[2:])
    is_peak &= middle - values[0] >= 0.5 * (values.max() - values[0])
    if not is_peak.any():
        return float(values.argmax())
    place = int(is_peak.argmax()) + 1
    left, top, right = values[place - 1 : place + 2]
    return place + 0.5 * float(left - right) / float(left - 2 * top + right)
