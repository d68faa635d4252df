"""Random velocity fields with a power-law spectrum."""

from __future__ import annotations

import numpy as np

LARGEST_WAVENUMBER = 16
"""Modes per box length up to which a velocity field is drawn; shorter waves are left to the cascade."""


def velocity_field(
    seed: int,
    grid: int,
    rms_speed: float,
    *,
    spectral_slope: float = -2.0,
    compressive_fraction: float = 0.1,
) -> np.ndarray:
    """Draw a periodic Gaussian velocity field with energy spectrum E(k) ~ k^slope.

    The same seed gives the same waves on any grid: a finer grid adds no new ones beyond
    `LARGEST_WAVENUMBER`, a coarser one leaves out those that it cannot hold.

    Parameters
    ----------
    seed
        Of the random phases and amplitudes.
    grid
        Cells along each of the three axes.
    rms_speed
        Root mean square of the speed [km/s]; the mean velocity is zero.
    spectral_slope
        -2 for supersonic (Burgers) turbulence.
    compressive_fraction
        Share of the kinetic energy in curl-free motions, 0 to 1; the rest is divergence-free.

    Returns
    -------
    numpy.ndarray
        `(3, grid, grid, grid)` float32 [km/s].
    """
    size = 2 * LARGEST_WAVENUMBER
    noise = np.random.default_rng(seed).standard_normal((3, size, size, size))
    modes = np.fft.rfftn(noise, axes=(1, 2, 3))
    wavenumbers = np.stack(
        np.meshgrid(
            np.fft.fftfreq(size, 1 / size),
            np.fft.fftfreq(size, 1 / size),
            np.fft.rfftfreq(size, 1 / size),
            indexing="ij",
        )
    )
    squared = (wavenumbers**2).sum(axis=0)
    is_used = (squared > 0) & (np.abs(wavenumbers).max(axis=0) < min(LARGEST_WAVENUMBER, grid / 2))
    squared[~is_used] = 1.0
    # A shell of modes has a surface of 4 pi k^2, so the power of one mode is E(k) / k^2.
    modes *= np.where(is_used, squared ** (0.25 * (spectral_slope - 2.0)), 0.0)
    compressive = wavenumbers * (wavenumbers * modes).sum(axis=0) / squared
    parts = [
        (modes - compressive, 1.0 - compressive_fraction),
        (compressive, compressive_fraction),
    ]
    velocity = np.zeros((3, grid, grid, grid))
    for part, share in parts:
        field = np.fft.irfftn(_resize(part, grid), s=(grid, grid, grid), axes=(1, 2, 3))
        mean_square = (field**2).sum(axis=0).mean()
        if mean_square > 0:
            velocity += field * np.sqrt(share / mean_square)
    mean_square = (velocity**2).sum(axis=0).mean()
    if mean_square > 0:
        velocity *= rms_speed / np.sqrt(mean_square)
    return velocity.astype(np.float32)


def _resize(modes: np.ndarray, grid: int) -> np.ndarray:
    """Copy Fourier modes `(3, n, n, n // 2 + 1)` to those of a grid of another size."""
    size = modes.shape[1]
    resized = np.zeros((3, grid, grid, grid // 2 + 1), dtype=modes.dtype)
    half = (min(size, grid) + 1) // 2
    low, high = slice(0, half), slice(-(half - 1), None) if half > 1 else slice(0, 0)
    for first in (low, high):
        for second in (low, high):
            resized[:, first, second, low] = modes[:, first, second, low]
    return resized
