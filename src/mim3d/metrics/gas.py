"""Measures of gas in a box that do not ask where it is: its density's distribution, spectrum, and heat."""

from __future__ import annotations

import numpy as np
from scipy import fft

from mim3d.metrics.density import number_density
from mim3d.supernova.cooling import theta_of_temperature

_LOG_DENSITY_RANGE = (-5.0, 5.0)
_BINS = 500


def density_distribution(density: np.ndarray) -> np.ndarray:
    """Share of the volume below each log10 n.

    Parameters
    ----------
    density
        `(T, *space)` [Msun/pc^3].

    Returns
    -------
    numpy.ndarray
        Cumulative distribution `(T, 500)` at log10 n from -4.98 to 5, 0.02 dex apart.
    """
    low, high = _LOG_DENSITY_RANGE
    logarithm = np.log10(number_density(density).reshape(len(density), -1))
    bins = np.clip((logarithm - low) / (high - low) * _BINS, 0, _BINS - 1).astype(np.int64)
    counts = np.stack([np.bincount(frame, minlength=_BINS) for frame in bins])
    return counts.cumsum(axis=1) / logarithm.shape[1]


def distribution_distance(density: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far one distribution of log10 n must be moved to become the other.

    The first Wasserstein distance, the area between the cumulative distributions.

    Parameters
    ----------
    density, other
        `(T, *space)` [Msun/pc^3].

    Returns
    -------
    numpy.ndarray
        `(T,)` [dex].
    """
    width = (_LOG_DENSITY_RANGE[1] - _LOG_DENSITY_RANGE[0]) / _BINS
    difference = density_distribution(density) - density_distribution(other)
    return np.abs(difference).sum(axis=1) * width


def power_spectrum(density: np.ndarray) -> np.ndarray:
    """Power of log10 n on every scale.

    Parameters
    ----------
    density
        `(T, *space)` [Msun/pc^3].

    Returns
    -------
    numpy.ndarray
        `(T, K)`: mean square amplitude of the modes with wave numbers around k = 1, 2, ... K, counted in
        waves along the shortest side of the grid; K is half of its voxels.
    """
    space = density.shape[1:]
    values = np.log10(number_density(density)).astype(np.float32)
    axes = tuple(range(1, values.ndim))
    modes = np.asarray(fft.rfftn(values - values.mean(axis=axes, keepdims=True), axes=axes))
    shortest = min(space)
    waves = [np.fft.fftfreq(count) * shortest for count in space[:-1]]
    waves.append(np.fft.rfftfreq(space[-1]) * shortest)
    square = np.sum(np.meshgrid(*(wave**2 for wave in waves), indexing="ij"), axis=0)
    wave_number = np.rint(np.sqrt(square)).astype(np.int64).ravel()
    # Modes with a negative last wave number are not stored; they mirror the others.
    weight = np.broadcast_to(np.where((waves[-1] > 0) & (waves[-1] < shortest / 2), 2.0, 1.0), square.shape)
    length = shortest // 2 + 1
    used = wave_number < length
    counts = np.bincount(wave_number[used], weight.ravel()[used], minlength=length)[1:]
    power = np.square(np.abs(modes)).reshape(len(values), -1) * weight.ravel()
    sums = [np.bincount(wave_number[used], frame[used], minlength=length)[1:] for frame in power]
    return np.stack(sums) / counts / float(np.prod(space)) ** 2


def thermal_pressure(density: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Pressure [Msun/pc^3 (km/s)^2] of gas of a density [Msun/pc^3] and a temperature [K]."""
    return density * theta_of_temperature(temperature)
