import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mim3d.errors import UserError
from mim3d.supernova.analytic import sedov_profile
from mim3d.supernova.rays import directions
from mim3d.supernova.shell import (
    affected_mask,
    cavity_volume,
    depleted_mask,
    mean_shell_radius,
    radial_momentum,
    shell_radius,
    shock_radius,
    thermal_energy,
)
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY, SUPERNOVA_ENERGY

BOX = (60.0, 60.0, 60.0)
SITE = (30.0, 30.0, 30.0)


def distance(grid: int = 32, site: tuple[float, float, float] = SITE) -> np.ndarray:
    centres = (np.arange(grid) + 0.5) * 60.0 / grid
    x, y, z = np.meshgrid(*(centres - coordinate for coordinate in site), indexing="ij")
    return np.sqrt(x**2 + y**2 + z**2)


def remnant(
    radius: float, thickness: float = 4.0, grid: int = 32, site: tuple[float, float, float] = SITE
) -> np.ndarray:
    """Gas of density 1 swept out of a sphere into a shell around it, mass conserved."""
    r = distance(grid, site)
    inner, outer = radius - thickness / 2, radius + thickness / 2
    swept = (outer**3 - 0.01 * inner**3) / (outer**3 - inner**3)
    return np.where(r < inner, 0.01, np.where(r < outer, swept, 1.0))


@pytest.mark.parametrize("radius", [8.0, 15.0, 24.0])
def test_radius_of_a_known_shell(radius: float) -> None:
    gas = remnant(radius, grid=64)
    radii = shell_radius(gas, np.ones_like(gas), BOX, SITE)
    # Half of what was displaced lies within this radius.
    median = (((radius - 2) ** 3 + (radius + 2) ** 3) / 2) ** (1 / 3)
    assert np.all(np.isfinite(radii))
    assert mean_shell_radius(radii) == pytest.approx(median, abs=0.2)
    assert np.std(radii) < 0.5


def test_blur_shifts_the_shell_by_less_than_half_a_voxel() -> None:
    gas = remnant(15.0)
    sharp = mean_shell_radius(shell_radius(gas, np.ones_like(gas), BOX, SITE))
    blurred = mean_shell_radius(shell_radius(gaussian_filter(gas, 1.0), np.ones_like(gas), BOX, SITE))
    assert blurred == pytest.approx(sharp, abs=0.94)


def test_turbulence_hardly_shifts_the_shell() -> None:
    cloud = np.exp(gaussian_filter(np.random.default_rng(3).normal(size=(32, 32, 32)), 2.0) * 8.0)
    gas = remnant(15.0) * cloud
    assert cloud.std() > 0.5
    radius = mean_shell_radius(shell_radius(gas, cloud, BOX, SITE))
    assert radius == pytest.approx(15.0, abs=1.2)


def test_off_centre_site_and_origin() -> None:
    site = (25.0, 33.0, 30.0)
    gas = remnant(14.0, grid=64, site=site)
    moved = tuple(coordinate - 100.0 for coordinate in site)
    radii = shell_radius(gas, np.ones_like(gas), BOX, moved, origin=(-100.0,) * 3)
    assert mean_shell_radius(radii) == pytest.approx(14.0, abs=0.5)


def test_no_shell_before_the_explosion() -> None:
    cloud = np.exp(np.random.default_rng(0).normal(size=(16, 16, 16)))
    radii = shell_radius(cloud, cloud, BOX, SITE)
    assert np.all(np.isnan(radii))
    assert np.isnan(mean_shell_radius(radii))
    assert np.isnan(shock_radius(cloud, cloud, BOX, SITE))


def test_no_shell_once_it_has_left_the_box() -> None:
    gas = np.full((16, 16, 16), 0.01)
    assert np.isnan(mean_shell_radius(shell_radius(gas, np.ones_like(gas), BOX, SITE)))


@pytest.mark.parametrize("radius", [10.0, 20.0])
def test_shock_of_a_sedov_blast(radius: float) -> None:
    fine = sedov_profile(distance(128) / radius).density
    gas = fine.reshape(64, 2, 64, 2, 64, 2).mean(axis=(1, 3, 5))
    assert shock_radius(gas, np.ones_like(gas), BOX, SITE) == pytest.approx(radius, abs=0.4 * 60 / 64)
    # The median of the displaced mass lies at 0.9697 of the shock, by the exact profile.
    shell = mean_shell_radius(shell_radius(gas, np.ones_like(gas), BOX, SITE))
    assert shell == pytest.approx(0.9697 * radius, rel=0.005)


def test_rays_share_the_sphere_evenly() -> None:
    rays = directions(192)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0)
    np.testing.assert_allclose(rays.mean(axis=0), 0.0, atol=0.01)
    np.testing.assert_allclose(rays.T @ rays / 192, np.eye(3) / 3, atol=0.01)


def test_cavity_volume_of_a_sphere() -> None:
    gas = np.where(distance(64) < 12.0, 0.5, 40.0) * MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY
    volume = cavity_volume(np.stack([gas, np.ones_like(gas)]), BOX)
    assert volume[0] == pytest.approx(4 / 3 * np.pi * 12.0**3, rel=0.02)
    assert volume[1] == 0


def test_radial_momentum_of_a_moving_shell() -> None:
    """A uniform sphere that moves outwards at 10 km/s carries mass times 10 km/s."""
    r = distance(32)
    centres = (np.arange(32) + 0.5) * 60.0 / 32 - 30.0
    outward = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1) / r[..., None]
    gas = np.where(r < 20.0, 0.7, 1e-3)
    mass = 0.7 * (r < 20.0).sum() * (60 / 32) ** 3
    velocity = 10.0 * outward * (r < 20.0)[..., None]
    assert radial_momentum(gas, velocity, BOX, SITE) == pytest.approx(10 * mass, rel=1e-9)
    frames = radial_momentum(np.stack([gas, gas]), np.stack([velocity, -velocity]), BOX, SITE)
    np.testing.assert_allclose(frames, [10 * mass, -10 * mass])


def test_thermal_energy_of_one_supernova() -> None:
    pressure = np.full((8, 8, 8), SUPERNOVA_ENERGY / 60.0**3 * 2 / 3)
    assert thermal_energy(pressure, BOX) == pytest.approx(5.0291e7, rel=1e-4)


def test_affected_and_depleted() -> None:
    gas, twin = np.array([0.85, 0.95, 1.05, 1.15]), np.ones(4)
    np.testing.assert_array_equal(affected_mask(gas, twin), [True, False, False, True])
    np.testing.assert_array_equal(depleted_mask(gas, twin), [True, False, False, False])


def test_mistakes_are_named() -> None:
    gas = np.ones((8, 8, 8))
    with pytest.raises(UserError, match="outside the box"):
        shell_radius(gas, gas, BOX, (70.0, 0.0, 0.0))
    with pytest.raises(UserError, match="share one"):
        shell_radius(gas, np.ones((4, 4, 4)), BOX, SITE)
