"""Errors of the logarithm of the number density, the published way of looking at the shell."""

from __future__ import annotations

import numpy as np

from mim3d.errors import UserError
from mim3d.metrics.streaming import MeanScore, check_sample, mean_or_nan
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY

CLIP_NUMBER_DENSITY = (1.0, 150.0)
"""Number densities [cm^-3] between which errors are measured: the colour bar of the published demo."""


def number_density(density: np.ndarray) -> np.ndarray:
    """Return the number density of hydrogen [cm^-3] of a mass density [Msun/pc^3]."""
    return np.asarray(density) / MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY


def log_number_density(density: np.ndarray) -> np.ndarray:
    """Return log10 of the number density [cm^-3], clipped to `CLIP_NUMBER_DENSITY`."""
    return np.log10(np.clip(number_density(density), *CLIP_NUMBER_DENSITY))


def site_voxel(
    site: tuple[float, ...], origin: tuple[float, ...], box_size: tuple[float, ...], grid: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the index of the voxel that holds the site; lengths in one unit, whichever it is."""
    fractions = [(x - low) / side for x, low, side in zip(site, origin, box_size, strict=True)]
    if not all(0 <= fraction <= 1 for fraction in fractions):
        raise UserError(f"the site {site} lies outside the box at {origin} that is {box_size} wide")
    return tuple(
        min(int(fraction * count), count - 1) for fraction, count in zip(fractions, grid, strict=True)
    )


class VolumeLogDensityError(MeanScore):
    """Mean over all voxels of the absolute difference in `log_number_density` [dex].

    Forecast and truth are mass densities [Msun/pc^3].
    """

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the error of one frame [dex]."""
        return mean_or_nan(np.abs(log_number_density(forecast) - log_number_density(truth)))


class MidPlaneLogDensityError(VolumeLogDensityError):
    """The same over the mid-planes through the explosion's site, one per axis, then averaged [dex].

    Forecast and truth are mass densities [Msun/pc^3], `(T, *space)`.
    """

    def accumulate(
        self, forecast: np.ndarray, truth: np.ndarray, site: tuple[int, ...] | None = None
    ) -> None:
        """Add one sample whose site is in voxel `site`; the voxel above the centre where not given."""
        forecast, truth = check_sample(forecast, truth, self.num_frames)
        space = forecast.shape[1:]
        site = site or tuple(count // 2 for count in space)
        if len(site) != len(space) or not all(0 <= i < count for i, count in zip(site, space, strict=True)):
            raise UserError(f"site {site} is not a voxel of a grid of {space}")
        for lead, (forecast_frame, true_frame) in enumerate(zip(forecast, truth, strict=True)):
            planes = [
                self.frame_value(forecast_frame.take(index, axis), true_frame.take(index, axis))
                for axis, index in enumerate(site)
            ]
            self._add(lead, mean_or_nan(np.array(planes)))
