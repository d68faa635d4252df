import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from mim3d.errors import UserError
from mim3d.supernova.cooling import CoolingCurve, temperature_of_theta, theta_of_temperature
from mim3d.supernova.emissivity import CoolingTable, emissivity
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as DENSITY_OF_ONE
from mim3d.supernova.units import PROTON_MASS_GRAM, SECONDS_PER_MYR

LOG_KELVIN = np.linspace(np.log(5.0), np.log(2e9), 100_001)
LOG_THETA = np.log(theta_of_temperature(np.exp(LOG_KELVIN)))


def theta_by_ode(theta: float, hydrogen_density: float, dt_myr: float, table: CoolingTable) -> float:
    """Integrate n_H^2 Lambda against the thermal energy 3/2 P, written down from scratch in cgs units."""

    def slope(_: float, log_theta: np.ndarray) -> np.ndarray:
        temperature = np.exp(np.interp(log_theta, LOG_THETA, LOG_KELVIN))
        energy = 1.5 * np.exp(log_theta) * 1e10 * hydrogen_density * 1.4 * PROTON_MASS_GRAM
        return -(hydrogen_density**2) * emissivity(temperature, table) * SECONDS_PER_MYR / energy

    solution = solve_ivp(slope, (0, dt_myr), [np.log(theta)], method="LSODA", rtol=1e-8, atol=1e-9)
    return float(np.exp(solution.y[0, -1]))


def test_uniform_gas_of_the_design_note() -> None:
    """n = 30 cm^-3 at 1e6 K has cooled to some 6000 K after 0.01 Myr: a step of more than 3 cooling times."""
    curve = CoolingCurve()
    after = curve.cool(theta_of_temperature(torch.tensor([1e6])), torch.tensor([30 * DENSITY_OF_ONE]), 0.01)
    assert 4000 < float(curve.temperature(after)) < 9000


@pytest.mark.parametrize("temperature", [300.0, 6e3, 2e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize("cooling_times", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("table", ["schure2009", "gnat2007"])
def test_one_step_follows_the_ode(temperature: float, cooling_times: float, table: CoolingTable) -> None:
    curve = CoolingCurve(temperature_floor=10.0, table=table)
    theta = theta_of_temperature(torch.tensor([temperature]))
    density = torch.tensor([30 * DENSITY_OF_ONE])
    dt = cooling_times * float(curve.cooling_time(theta, density))
    expected = max(theta_by_ode(float(theta), 30.0, dt, table), curve.theta_floor)
    assert float(curve.cool(theta, density, dt)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("temperature", [6e3, 1e5, 1e6, 1e7])
def test_many_steps_are_one(temperature: float) -> None:
    curve = CoolingCurve()
    theta = theta_of_temperature(torch.tensor([temperature]))
    density = torch.tensor([DENSITY_OF_ONE])
    dt = 1.5 * float(curve.cooling_time(theta, density))
    step_by_step = theta
    for _ in range(3000):
        step_by_step = curve.cool(step_by_step, density, dt / 3000)
    torch.testing.assert_close(step_by_step, curve.cool(theta, density, dt), rtol=2e-3, atol=0)


def test_gas_that_hardly_cools_keeps_its_heat() -> None:
    """Rounding must not cool the cavity: 1e7 K at n = 0.001 cm^-3, a thousand steps of 1e-9 cooling times."""
    curve = CoolingCurve()
    theta = before = theta_of_temperature(torch.tensor([1e7, 3.3e6, 7e7]))
    density = torch.full((3,), 1e-3 * DENSITY_OF_ONE)
    dt = 1e-9 * curve.cooling_time(theta, density)
    for _ in range(1000):
        theta = curve.cool(theta, density, dt)
    torch.testing.assert_close(theta, before, rtol=1e-6, atol=0)


def test_gas_at_or_below_the_floor_is_left_alone() -> None:
    curve = CoolingCurve(temperature_floor=100.0)
    theta = theta_of_temperature(torch.tensor([3.0, 50.0, 100.0]))
    after = curve.cool(theta, torch.full((3,), 1e3), 10.0)
    torch.testing.assert_close(after, theta, rtol=1e-6, atol=0)


def test_gas_stops_at_the_floor() -> None:
    curve = CoolingCurve(temperature_floor=100.0)
    theta = theta_of_temperature(torch.logspace(2.01, 9, 200))
    after = curve.cool(theta, torch.tensor(1e4), 1e6)
    torch.testing.assert_close(curve.temperature(after), torch.full((200,), 100.0), rtol=1e-3, atol=0)


def test_never_heats_and_keeps_the_order() -> None:
    curve = CoolingCurve()
    theta = theta_of_temperature(torch.logspace(0.5, 9.3, 20_000, dtype=torch.float64))
    for dt in (0.0, 1e-6, 1e-3, 0.1, 10.0):
        after = curve.cool(theta, torch.tensor(DENSITY_OF_ONE, dtype=torch.float64), dt)
        assert torch.all(after <= theta)
        assert torch.all(torch.diff(after) >= -1e-6 * after[1:])
        assert torch.all(torch.isfinite(after))


def test_single_precision_is_enough() -> None:
    curve = CoolingCurve()
    generator = torch.Generator().manual_seed(1)
    temperature = 10 ** (2 + 6.5 * torch.rand(20_000, generator=generator, dtype=torch.float64))
    density = DENSITY_OF_ONE * 10 ** (-3 + 6 * torch.rand(20_000, generator=generator, dtype=torch.float64))
    theta = theta_of_temperature(temperature).float().double()
    density = density.float().double()
    exact = curve.cool(theta, density, 1e-3)
    single = curve.cool(theta.float(), density.float(), 1e-3)
    assert single.dtype == torch.float32
    error = (single.double() / exact - 1).abs()
    assert float(error.max()) < 5e-3
    assert float(error.mean()) < 1e-5


def test_shapes_broadcast() -> None:
    curve = CoolingCurve()
    theta = theta_of_temperature(torch.full((2, 4, 4, 4), 1e6))
    after = curve.cool(theta, torch.full((4, 4, 4), 1.0), torch.tensor([1e-5, 1e-4]).view(2, 1, 1, 1))
    assert after.shape == theta.shape
    assert torch.all(after[1] < after[0])


def test_temperature_inverts_theta() -> None:
    curve = CoolingCurve()
    temperature = torch.logspace(1, 9.5, 5000, dtype=torch.float64)
    torch.testing.assert_close(
        curve.temperature(theta_of_temperature(temperature)), temperature, rtol=5e-4, atol=0
    )


def test_temperature_in_double_precision() -> None:
    temperature = np.geomspace(1.0, 1e10, 1000)
    np.testing.assert_allclose(
        temperature_of_theta(theta_of_temperature(temperature)), temperature, rtol=1e-4
    )


def test_mean_molecular_weights_of_both_ends() -> None:
    boltzmann_over_proton = 8.254e-3  # [(km/s)^2/K]
    assert theta_of_temperature(np.array(100.0)) == pytest.approx(
        boltzmann_over_proton * 100 / 1.2727, rel=1e-3
    )
    assert theta_of_temperature(np.array(1e6)) == pytest.approx(
        boltzmann_over_proton * 1e6 / 0.6087, rel=1e-3
    )


@pytest.mark.parametrize("floor", [5.0, 1e6, float("nan")])
def test_floor_outside_the_curve(floor: float) -> None:
    with pytest.raises(UserError, match="temperature_floor"):
        CoolingCurve(temperature_floor=floor)


def test_what_is_not_a_number_stays_that() -> None:
    theta = torch.tensor([float("nan"), 100.0])
    after = CoolingCurve().cool(theta, torch.ones(2), 0.1)
    assert after.isnan().tolist() == [True, False]
