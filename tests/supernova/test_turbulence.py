import numpy as np
import pytest

from mim3d.supernova.turbulence import LARGEST_WAVENUMBER, velocity_field


def spectrum(velocity):
    """Kinetic energy per shell of integer wavenumber."""
    grid = velocity.shape[-1]
    modes = np.fft.fftn(velocity, axes=(1, 2, 3), norm="forward")
    k = np.fft.fftfreq(grid, 1 / grid)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k**2)
    power = 0.5 * (np.abs(modes) ** 2).sum(axis=0)
    return np.bincount(np.rint(radius).astype(int).ravel(), power.ravel())


def test_rms_speed_and_mean_are_as_asked():
    velocity = velocity_field(3, 32, 4.0)
    assert velocity.dtype == np.float32
    assert np.sqrt((velocity.astype(float) ** 2).sum(axis=0).mean()) == pytest.approx(4.0, rel=1e-5)
    np.testing.assert_allclose(velocity.mean(axis=(1, 2, 3)), 0, atol=1e-5)


@pytest.mark.parametrize("slope", [-2.0, -5 / 3])
def test_energy_spectrum_is_the_power_law(slope):
    energies = np.mean(
        [spectrum(velocity_field(seed, 32, 1.0, spectral_slope=slope)) for seed in range(8)], axis=0
    )
    wavenumbers = np.arange(3, LARGEST_WAVENUMBER - 2)
    fitted, _ = np.polyfit(np.log(wavenumbers), np.log(energies[wavenumbers]), 1)
    assert fitted == pytest.approx(slope, abs=0.25)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
def test_compressive_share_of_the_energy_is_as_asked(fraction):
    velocity = velocity_field(5, 32, 1.0, compressive_fraction=fraction).astype(float)
    modes = np.fft.fftn(velocity, axes=(1, 2, 3))
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(32, 1 / 32),) * 3, indexing="ij"))
    along = np.abs((k * modes).sum(axis=0)) ** 2 / np.maximum((k**2).sum(axis=0), 1)
    assert along.sum() / (np.abs(modes) ** 2).sum() == pytest.approx(fraction, abs=0.02)


def test_a_seed_is_reproducible_and_another_one_differs():
    np.testing.assert_array_equal(velocity_field(7, 16, 1.0), velocity_field(7, 16, 1.0))
    assert np.abs(velocity_field(7, 16, 1.0) - velocity_field(8, 16, 1.0)).max() > 0.1


def test_the_same_seed_gives_the_same_waves_on_a_finer_grid():
    coarse, fine = velocity_field(2, 32, 1.0), velocity_field(2, 64, 1.0)
    np.testing.assert_allclose(fine[:, ::2, ::2, ::2], coarse, atol=1e-5)


def test_no_turbulence_is_no_motion():
    assert not velocity_field(0, 16, 0.0).any()
