"""A blast on finer cells, where it has come to."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mim3d.supernova.blast import explode
from mim3d.supernova.cooling import CoolingCurve
from mim3d.supernova.hydrodynamics import ENERGY, MASS, to_conserved, to_primitive
from mim3d.supernova.nested import QuietGas, evolve_blast, refine
from mim3d.supernova.simulation import CloudSettings, SimulationError, evolve, pool, turbulent_clouds
from mim3d.supernova.units import ADIABATIC_INDEX, MSUN_KMS2_PER_ERG

GRID, WIDTH = 32, 60 / 32
TIMES = (0.005, 0.01, 0.02, 0.03)
CURVE = CoolingCurve()


@pytest.fixture(scope="module")
def cloud() -> torch.Tensor:
    return turbulent_clouds([CloudSettings(seed=3, grid=GRID, voxels=GRID)])


@pytest.fixture(scope="module")
def quiet(cloud) -> QuietGas:
    return QuietGas.follow(cloud, (0.015, 0.03), WIDTH, CURVE)


def exploded(cloud: torch.Tensor, site: tuple[float, float, float], energy_erg: float = 1e51) -> torch.Tensor:
    return explode(cloud[0], WIDTH, site, energy_erg * MSUN_KMS2_PER_ERG, 100.0)[None]


def composed(start: torch.Tensor, quiet: QuietGas) -> list[torch.Tensor]:
    """Return the whole box at every time."""
    frames = []
    for time, (state, region) in zip(TIMES, evolve_blast(start, quiet, TIMES, WIDTH, CURVE), strict=True):
        whole = quiet.at(time)
        whole[(..., *region)] = state
        frames.append(whole)
    return frames


def random_gas(seed: int, grid: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    density = torch.exp(2 * torch.randn(1, 1, grid, grid, grid, generator=generator))
    velocity = 10 * torch.randn(1, 3, grid, grid, grid, generator=generator)
    theta = torch.exp(torch.randn(1, 1, grid, grid, grid, generator=generator))
    return to_conserved(torch.cat([density, velocity, density * theta], dim=1), ADIABATIC_INDEX)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_finer_cells_have_the_voxels_mass_momentum_and_pressure(seed):
    # Single precision would leave four digits of a pressure that is a thousandth of the energy of motion.
    gas = random_gas(seed).double()
    fine = refine(gas)
    assert fine.shape == (1, 5, 12, 12, 12)
    kept, before = pool(fine, 6), pool(gas, 6)
    for variable in range(5):
        scale = before[:, variable].abs().max()
        assert (kept[:, variable] - before[:, variable]).abs().max() < 1e-10 * scale
    single = refine(gas.float())
    for variable in range(5):
        scale = fine[:, variable].abs().max()
        assert (single[:, variable] - fine[:, variable]).abs().max() < 1e-5 * scale
    for made in (fine, single):
        assert (made[:, MASS] > 0).all()
        assert (to_primitive(made, ADIABATIC_INDEX)[:, 4] > 0).all()


def test_what_varies_smoothly_goes_on_within_the_voxels():
    """The error of the interpolation falls with the fourth power of the voxels' size."""
    errors = []
    for size in (16, 32):
        edges = torch.linspace(0, 2 * math.pi, 2 * size + 1, dtype=torch.float64)
        cells = -torch.cos(edges).diff() / edges.diff()
        voxels = cells.view(size, 2).mean(dim=1)
        velocity = voxels.view(1, 1, size, 1, 1).expand(1, 3, size, 4, 4)
        gas = torch.cat([torch.ones_like(velocity[:, :1]), velocity, 10 + velocity[:, :1].square()], dim=1)
        made = refine(gas)[0, 1, :, 0, 0]
        errors.append((made - cells)[size // 2 : -size // 2].abs().max().item())
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] > 12


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_refining_does_not_know_left_from_right(axis):
    gas = random_gas(1)

    def mirrored(values: torch.Tensor) -> torch.Tensor:
        flipped = values.flip(2 + axis).clone()
        flipped[:, 1 + axis] *= -1
        return flipped

    torch.testing.assert_close(refine(mirrored(gas)), mirrored(refine(gas)), rtol=1e-4, atol=1e-3)


def test_quiet_gas_changes_evenly_between_known_times():
    states = torch.stack([torch.full((5, 2, 2, 2), value) for value in (1.0, 3.0, 4.0)])
    gas = QuietGas((0.0, 0.1, 0.3), states)
    for time, value in ((0.0, 1.0), (0.05, 2.0), (0.1, 3.0), (0.2, 3.5), (0.3, 4.0)):
        torch.testing.assert_close(gas.at(time), torch.full((1, 5, 2, 2, 2), value))
    assert gas.at(0.05, (slice(0, 1), slice(0, 2), slice(1, 2))).shape == (1, 5, 1, 2, 1)


@pytest.mark.parametrize("site", [(30.0, 30.0, 30.0), (6.0, 30.0, 52.0)])
def test_it_is_what_the_whole_box_gives(cloud, quiet, site):
    start = exploded(cloud, site)
    made = composed(start, quiet)
    for one, whole in zip(made, evolve(start, TIMES, WIDTH, CURVE), strict=True):
        difference = (torch.log10(one[:, MASS]) - torch.log10(whole[:, MASS])).abs()
        assert difference.mean() < 5e-4
        assert difference.quantile(0.999) < 0.02
        assert one[:, ENERGY].sum() == pytest.approx(whole[:, ENERGY].sum().item(), rel=2e-3)


def test_cells_are_computed_where_the_blast_has_come_to(cloud, quiet):
    regions = [
        region for _, region in evolve_blast(exploded(cloud, (30.0, 30.0, 30.0)), quiet, TIMES, WIDTH, CURVE)
    ]
    shares = [math.prod(side.stop - side.start for side in region) / GRID**3 for region in regions]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] < 0.6
    assert all(side.start % 2 == 0 and side.stop % 2 == 0 for region in regions for side in region)


def test_nothing_is_affected_outside(cloud, quiet):
    start = exploded(cloud, (30.0, 30.0, 30.0))
    *_, (_, region) = evolve_blast(start, quiet, TIMES, WIDTH, CURVE)
    *_, whole = evolve(start, TIMES, WIDTH, CURVE)
    *_, twin = evolve(cloud, TIMES, WIDTH, CURVE)
    affected = (whole[0, MASS] / twin[0, MASS] - 1).abs() > 0.1
    assert affected.any()
    affected[region] = False
    assert not affected.any()


def test_without_energy_the_gas_stays_quiet(cloud, quiet):
    made = composed(exploded(cloud, (30.0, 30.0, 30.0), 0.0), quiet)
    np.testing.assert_allclose(made[-1][0, MASS], quiet.at(TIMES[-1])[0, MASS], rtol=0.1)


def test_uniform_gas_keeps_its_symmetry():
    density = torch.ones(1, 1, GRID, GRID, GRID)
    gas = to_conserved(
        torch.cat([density, 0 * density.expand(1, 3, -1, -1, -1), density], dim=1), ADIABATIC_INDEX
    )
    still = QuietGas.follow(gas, (0.03,), WIDTH, CURVE)
    made = composed(exploded(gas, (30.0, 30.0, 30.0)), still)[-1][0, MASS]
    assert made.max() > 2
    for axis in range(3):
        torch.testing.assert_close(made.flip(axis), made, rtol=1e-3, atol=1e-4)


def test_gas_that_is_no_longer_finite_ends_it(cloud, quiet):
    broken = exploded(cloud, (30.0, 30.0, 30.0))
    broken[0, ENERGY, 16, 16, 16] = math.nan
    with pytest.raises(SimulationError, match="no longer finite"):
        list(evolve_blast(broken, quiet, TIMES, WIDTH, CURVE))
