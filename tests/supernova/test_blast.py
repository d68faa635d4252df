from functools import cache

import numpy as np
import pytest
import torch

from mim3d.supernova.analytic import (
    sedov_profile,
    sedov_radius,
    shell_formation_radius,
    shell_formation_time,
    terminal_momentum,
)
from mim3d.supernova.blast import cell_distance, explode
from mim3d.supernova.cooling import CoolingCurve, theta_of_temperature
from mim3d.supernova.hydrodynamics import to_conserved, to_primitive
from mim3d.supernova.shell import mean_shell_radius, radial_momentum, shell_radius, thermal_energy
from mim3d.supernova.simulation import CloudSettings, evolve, turbulent_clouds
from mim3d.supernova.units import (
    MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as DENSITY_OF_ONE,
)
from mim3d.supernova.units import MYR_PER_CODE_TIME, SUPERNOVA_ENERGY

GAMMA = 5 / 3

# The median of the gas that a Sedov blast displaces lies at this share of the shock's radius, by
# `sedov_profile`.
SEDOV_SHELL_OVER_SHOCK = 0.9697


def uniform_gas(hydrogen_density: float, temperature: float, grid: int) -> torch.Tensor:
    primitive = torch.zeros(1, 5, grid, grid, grid)
    primitive[:, 0] = hydrogen_density * DENSITY_OF_ONE
    primitive[:, 4] = primitive[:, 0] * float(theta_of_temperature(np.array(temperature)))
    return to_conserved(primitive, GAMMA)


def supernova(gas: torch.Tensor, box: float, heated_mass: float = 100.0) -> torch.Tensor:
    return explode(gas[0], box / gas.shape[-1], (box / 2,) * 3, SUPERNOVA_ENERGY, heated_mass)[None]


def radius(state: torch.Tensor, gas: torch.Tensor, box: float) -> float:
    return mean_shell_radius(shell_radius(state[0, 0].numpy(), gas[0, 0].numpy(), (box,) * 3, (box / 2,) * 3))


def momentum(state: torch.Tensor, box: float) -> float:
    primitive = to_primitive(state, GAMMA)[0].double().numpy()
    velocity = np.moveaxis(primitive[1:4], 0, -1)
    return float(radial_momentum(primitive[0], velocity, (box,) * 3, (box / 2,) * 3))


@pytest.mark.parametrize("heated_mass", [1e-3, 100.0, 2000.0])
@pytest.mark.parametrize("site", [(30.0, 30.0, 30.0), (20.0, 33.5, 41.0)])
def test_the_whole_energy_goes_into_about_the_heated_mass(
    heated_mass: float, site: tuple[float, float, float]
) -> None:
    gas = uniform_gas(44.5, 100.0, 32)
    after = explode(gas[0], 60 / 32, site, SUPERNOVA_ENERGY, heated_mass)
    cell_volume = (60 / 32) ** 3
    heat = (after - gas[0])[4].double() * cell_volume
    assert float(heat.sum()) == pytest.approx(SUPERNOVA_ENERGY, rel=1e-5)
    torch.testing.assert_close(after[:4], gas[0, :4])
    mass = float((gas[0, 0] * (heat > 0)).double().sum()) * cell_volume
    cell_mass = float(gas[0, 0, 0, 0, 0]) * cell_volume
    assert mass == pytest.approx(heated_mass, rel=0.15, abs=8.1 * cell_mass)
    distance = cell_distance(32, 60 / 32, site)
    assert float(distance[heat > 0].max()) <= float(distance[heat == 0].min())


def test_heat_follows_mass() -> None:
    """Heated gas gets one temperature, however clumpy it is."""
    gas = uniform_gas(10.0, 100.0, 16)
    gas = gas * torch.exp(torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)))
    after = to_primitive(supernova(gas, 60.0, 3000.0), GAMMA)
    theta = (after[:, 4] / after[:, 0])[after[:, 4] / after[:, 0] > 100]
    assert len(theta) > 30
    torch.testing.assert_close(theta, theta.mean().expand_as(theta), rtol=1e-3, atol=0)


@cache
def sedov(grid: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gas (n_H = 10 cm^-3, box of 60 pc), the explosion in it, and 0.1 Myr later, without cooling."""
    gas = uniform_gas(10.0, 100.0, grid)
    start = supernova(gas, 60.0)
    (state,) = evolve(start, [0.1], 60.0 / grid)
    return gas, start, state


def sedov_radius_error(grid: int) -> float:
    gas, _, state = sedov(grid)
    exact = float(sedov_radius(1e51, 10 * DENSITY_OF_ONE, 0.1))
    return radius(state, gas, 60.0) / SEDOV_SHELL_OVER_SHOCK / exact - 1


def test_sedov_radius_on_a_coarse_grid() -> None:
    """Measured: 2.9 % too large on 32 cells across 60 pc."""
    assert 0 < sedov_radius_error(32) < 0.035


@pytest.mark.slow
def test_sedov_radius_within_two_percent() -> None:
    """Measured: 8.6, 2.9, 1.4 % too large at 16^3, 32^3, 64^3."""
    errors = [sedov_radius_error(grid) for grid in (16, 32, 64)]
    assert abs(errors[2]) < 0.02
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


@pytest.mark.parametrize("grid", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_sedov_blast_keeps_mass_and_energy(grid: int) -> None:
    _, start, state = sedov(grid)
    sums = [values.double().sum(dim=(0, 2, 3, 4)) for values in (start, state)]
    assert float(sums[1][0] / sums[0][0]) == pytest.approx(1, abs=1e-5)
    assert float(sums[1][4] / sums[0][4]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("grid", "tolerance"), [(32, 0.05), pytest.param(64, 0.035, marks=pytest.mark.slow)])
def test_sedov_blast_shares_energy_and_momentum_as_it_must(grid: int, tolerance: float) -> None:
    """Radial momentum, and the heat's share of the energy, against the exact profile."""
    _, _, state = sedov(grid)
    fraction = (np.arange(2000) + 0.5) / 2000
    density, velocity, pressure = sedov_profile(fraction)
    shock = float(sedov_radius(1e51, 10 * DENSITY_OF_ONE, 0.1))
    speed = 0.4 * shock / (0.1 / MYR_PER_CODE_TIME)
    exact = 4 * np.pi * shock**3 * 10 * DENSITY_OF_ONE * speed * np.mean(density * velocity * fraction**2)
    assert momentum(state, 60.0) == pytest.approx(exact, rel=tolerance)
    heat = np.mean(1.5 * pressure * fraction**2)
    exact_share = heat / (heat + np.mean(0.5 * density * velocity**2 * fraction**2))
    share = thermal_energy(to_primitive(state, GAMMA)[0, 4].numpy(), (60.0,) * 3) / SUPERNOVA_ENERGY
    assert float(share) == pytest.approx(exact_share, rel=tolerance)


def test_uniform_gas_cools_as_the_curve_says() -> None:
    """The solver's many steps against one exact step: 1e6 K, n = 30 cm^-3, three cooling times."""
    gas = uniform_gas(30.0, 1e6, 8)
    curve = CoolingCurve()
    theta = to_primitive(gas, GAMMA)[0, 4] / gas[0, 0]
    duration = 3 * float(curve.cooling_time(theta, gas[0, 0])[0, 0, 0])
    (state,) = evolve(gas, [duration], 60.0 / 8, curve)
    after = to_primitive(state, GAMMA)[0, 4] / state[0, 0]
    torch.testing.assert_close(after, curve.cool(theta, gas[0, 0], duration), rtol=0.01, atol=0)
    torch.testing.assert_close(state[0, :4], gas[0, :4], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("hydrogen_density", "box"), [(1.0, 100.0), (10.0, 48.0), (44.5, 36.0)])
def test_radiative_momentum(hydrogen_density: float, box: float) -> None:
    """Within 20 % of Kim & Ostriker 2015 after 0.3 Myr on 64^3 cells that hold the shell."""
    gas = uniform_gas(hydrogen_density, 100.0, 64)
    (state,) = evolve(supernova(gas, box), [0.3], box / 64, CoolingCurve())
    assert radius(state, gas, box) < 0.47 * box
    assert momentum(state, box) == pytest.approx(terminal_momentum(hydrogen_density), rel=0.2)


@pytest.mark.slow
def test_strong_cooling_costs_momentum() -> None:
    """In thin gas (n = 1 cm^-3) Schure's table, which radiates most, ends 22 % below Kim & Ostriker."""
    gas = uniform_gas(1.0, 100.0, 64)
    (state,) = evolve(supernova(gas, 100.0), [0.3], 100.0 / 64, CoolingCurve(table="schure2009"))
    assert momentum(state, 100.0) == pytest.approx(0.78 * terminal_momentum(1.0), rel=0.05)


def shell_formation(hydrogen_density: float, curve: CoolingCurve) -> float:
    """When the mass of hot gas (above 2e4 K) is largest, over the time of Kim & Ostriker 2015.

    Cells and heated sphere are well below a third of the shell's radius, as they ask.
    """
    published = shell_formation_time(hydrogen_density)
    times = np.arange(0.5, 1.3, 0.05) * published
    box = 2.6 * shell_formation_radius(hydrogen_density)
    heated_mass = 4 / 3 * np.pi * (box / 20) ** 3 * hydrogen_density * DENSITY_OF_ONE
    hot_theta = float(theta_of_temperature(np.array(2e4)))
    gas = uniform_gas(hydrogen_density, 100.0, 64)
    hot = [
        float(state[0, 0][to_primitive(state, GAMMA)[0, 4] > hot_theta * state[0, 0]].sum())
        for state in evolve(supernova(gas, box, heated_mass), list(times), box / 64, curve)
    ]
    return float(times[int(np.argmax(hot))]) / published


@pytest.mark.slow
@pytest.mark.parametrize("hydrogen_density", [1.0, 10.0])
def test_shell_formation_time(hydrogen_density: float) -> None:
    """Measured: 0.90 and 0.84 of Kim & Ostriker's fit."""
    assert shell_formation(hydrogen_density, CoolingCurve()) == pytest.approx(1.0, abs=0.2)


@pytest.mark.slow
def test_strong_cooling_forms_the_shell_early() -> None:
    """Schure's table radiates four times as much at 1e5 K; measured: 0.60."""
    assert shell_formation(1.0, CoolingCurve(table="schure2009")) < 0.7


def random_clouds(count: int, seed: int) -> list[CloudSettings]:
    generator = np.random.default_rng(seed)
    return [
        CloudSettings(
            seed=index,
            hydrogen_density=float(np.exp(generator.uniform(0, np.log(300)))),
            mach_number=float(generator.uniform(1, 10)),
            grid=16,
            voxels=16,
            # Mach 1 takes ten times as many steps to decay as Mach 10, and gets no more interesting.
            decay=0.25,
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_random_clouds_stay_positive(count: int) -> None:
    """Mach 1 to 10, n 1 to 300 cm^-3, with cooling: finite, positive, and no mass appears."""
    clouds = random_clouds(count, seed=count)
    before = turbulent_clouds(clouds)
    start = torch.stack(
        [
            explode(state, cloud.cell_width, (cloud.box_size / 2,) * 3, SUPERNOVA_ENERGY, cloud.heated_mass)
            for state, cloud in zip(before, clouds, strict=True)
        ]
    )
    for state in evolve(start, [0.01, 0.06], clouds[0].cell_width, CoolingCurve()):
        primitive = to_primitive(state, GAMMA)
        assert torch.isfinite(primitive).all()
        assert primitive[:, 0].min() > 0
        assert primitive[:, 4].min() > 0
        mass = [values[:, 0].double().sum(dim=(1, 2, 3)) for values in (start, state)]
        assert torch.all(mass[1] < mass[0] * 1.02)
