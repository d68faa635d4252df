"""The radius of a shell: against a known one, whatever the blur, and absent where there is none."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mim3d.report.shell import stacked_shell_radius

BOX = (60.0, 60.0, 60.0)
SITE = (30.0, 30.0, 30.0)


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
