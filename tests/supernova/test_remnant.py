"""The shape of a remnant: against a known one, whatever the blur, and absent where there is none."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mim3d.supernova.remnant import measure_shape

BOX = (60.0, 60.0, 60.0)
SITE = (30.0, 30.0, 30.0)


def stacked_shell_radius(density, before, box_size, site, **options):
    return measure_shape(density[None], before, box_size, site, **options).radius[0]


def shell_in_uniform_gas(radius, width=2.0, offset=(0.0, 0.0, 0.0), grid=32):
    centres = (np.arange(grid) + 0.5) * 60 / grid - 30
    axes = np.meshgrid(*(centres - o for o in offset), indexing="ij")
    r = np.sqrt(sum(x**2 for x in axes))
    return np.where(r < radius - width, 0.01, 1 + 2 * np.exp(-0.5 * ((r - radius) / 1.2) ** 2))


@pytest.mark.parametrize("radius", [8.0, 12.0, 18.0])
def test_a_known_radius_is_found(radius):
    density = shell_in_uniform_gas(radius)
    before = np.ones_like(density)
    assert stacked_shell_radius(density, before, BOX, SITE) == pytest.approx(radius, abs=0.5)


def test_the_site_need_not_be_the_centre():
    density = shell_in_uniform_gas(9.0, offset=(6.0, -5.0, 2.0))
    before = np.ones_like(density)
    radius = stacked_shell_radius(density, before, BOX, (36.0, 25.0, 32.0))
    assert radius == pytest.approx(9, abs=0.5)
    moved = stacked_shell_radius(density, before, BOX, (6.0, -5.0, 2.0), origin=(-30.0,) * 3)
    assert moved == pytest.approx(radius)


def test_turbulence_and_blur_hardly_matter():
    rough = gaussian_filter(np.random.default_rng(2).normal(size=(32, 32, 32)), 2, mode="wrap")
    before = np.exp(rough / rough.std())
    density = before * shell_in_uniform_gas(12.0)
    sharp = stacked_shell_radius(density, before, BOX, SITE)
    assert sharp == pytest.approx(12, abs=0.6)
    # The blur of a forecast that makes errors in the logarithm loses mass.
    blurred = 10 ** gaussian_filter(np.log10(density), 0.6)
    assert blurred.sum() < 0.97 * density.sum()
    assert stacked_shell_radius(blurred, before, BOX, SITE) == pytest.approx(sharp, abs=1.2)


def test_without_a_cavity_there_is_no_shell():
    before = np.ones((32, 32, 32))
    assert np.isnan(stacked_shell_radius(before, before, BOX, SITE))
    assert np.isnan(stacked_shell_radius(0.01 * before, before, BOX, SITE))


def test_the_quadrupole_of_a_stretched_cavity_is_found():
    centres = (np.arange(48) + 0.5) * 60 / 48 - 30
    x, y, z = np.meshgrid(centres, centres, centres, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    amplitude = 0.2
    edge = 15 * (1 + amplitude * 0.5 * (3 * (x / r) ** 2 - 1))
    density = 1 / (1 + np.exp(-(r - edge) / 0.4)) + 1e-3
    before = np.ones_like(density)
    shape = measure_shape(np.stack([density, density.transpose(1, 2, 0)]), before, BOX, SITE)
    np.testing.assert_allclose(shape.quadrupole, amplitude / np.sqrt(5), rtol=0.05)
    # A quarter of the pole's excess is missing on the equator.
    assert np.nanmax(shape.wall) == pytest.approx(15 * 1.2, abs=0.6)
    assert np.nanmin(shape.wall) == pytest.approx(15 * 0.9, abs=0.6)
    sphere = shell_in_uniform_gas(12.0)
    assert measure_shape(sphere[None], np.ones_like(sphere), BOX, SITE).quadrupole[0] < 0.01


def test_a_blurred_shell_is_thicker_and_the_cavity_has_its_volume():
    density = shell_in_uniform_gas(14.0, width=3.0)
    before = np.ones_like(density)
    both = np.stack([density, gaussian_filter(density, 1.0)])
    shape = measure_shape(both, before, BOX, SITE)
    # 1 + 2 exp(-r^2 / (2 s^2)) is 2.355 s wide where half of the 2 is left.
    assert shape.thickness[0] == pytest.approx(2.355 * 1.2, abs=0.6)
    assert shape.thickness[1] > shape.thickness[0] + 1
    assert shape.cavity_volume[0] == pytest.approx(4 / 3 * np.pi * 11**3, rel=0.05)


def test_frames_that_are_not_known_have_no_shape():
    density = np.full((1, 16, 16, 16), np.nan)
    shape = measure_shape(density, np.ones((16, 16, 16)), BOX, SITE)
    for values in (shape.radius, shape.quadrupole, shape.thickness, shape.cavity_volume):
        assert np.isnan(values).all()
