import numpy as np
import pytest

from mim3d.errors import UserError
from mim3d.supernova.analytic import (
    SEDOV_COEFFICIENT,
    SOD_LEFT,
    SOD_RIGHT,
    GasState,
    riemann,
    sedov_profile,
    sedov_radius,
    shell_formation_radius,
    shell_formation_time,
    terminal_momentum,
)


def test_sod_has_the_published_middle_state() -> None:
    """Toro 2009, table 4.2, test 1: p* = 0.30313, u* = 0.92745, rho* = 0.42632 and 0.26557."""
    solution = riemann(SOD_LEFT, SOD_RIGHT, np.array([-5.0, 0.5, 1.2, 5.0]), gamma=1.4)
    np.testing.assert_allclose(solution.density, [1.0, 0.42632, 0.26557, 0.125], rtol=2e-5)
    np.testing.assert_allclose(solution.velocity, [0.0, 0.92745, 0.92745, 0.0], rtol=2e-5)
    np.testing.assert_allclose(solution.pressure, [1.0, 0.30313, 0.30313, 0.1], rtol=2e-5)


@pytest.mark.parametrize(
    ("left", "right", "pressure", "velocity"),
    [
        (GasState(1.0, -2.0, 0.4), GasState(1.0, 2.0, 0.4), 0.00189, 0.0),
        (GasState(1.0, 0.0, 1000.0), GasState(1.0, 0.0, 0.01), 460.894, 19.5975),
        (GasState(1.0, 0.0, 0.01), GasState(1.0, 0.0, 100.0), 46.0950, -6.19633),
        (
            GasState(5.99924, 19.5975, 460.894),
            GasState(5.99242, -6.19633, 46.0950),
            1691.64,
            8.68975,
        ),
    ],
)
def test_the_other_published_tubes(left: GasState, right: GasState, pressure: float, velocity: float) -> None:
    """Toro 2009, table 4.2, tests 2 to 5."""
    solution = riemann(left, right, np.array([velocity + 1e-9]), gamma=1.4)
    assert float(solution.pressure[0]) == pytest.approx(pressure, rel=3e-3)
    assert float(solution.velocity[0]) == pytest.approx(velocity, rel=1e-4, abs=1e-6)


def test_tube_conserves_what_flows() -> None:
    """Mass, momentum and energy in a long tube change by what enters at its ends alone."""
    gamma, reach = 5 / 3, 3.0
    speed = (np.arange(400_000) + 0.5) / 400_000 * 2 * reach - reach
    solution = riemann(SOD_LEFT, SOD_RIGHT, speed, gamma)
    spacing = speed[1] - speed[0]
    energy = solution.pressure / (gamma - 1) + 0.5 * solution.density * solution.velocity**2
    before = reach * (SOD_LEFT.pressure + SOD_RIGHT.pressure) / (gamma - 1)
    assert solution.density.sum() * spacing == pytest.approx(reach * 1.125, rel=1e-5)
    assert (solution.density * solution.velocity).sum() * spacing == pytest.approx(0.9, rel=1e-4)
    assert energy.sum() * spacing == pytest.approx(before, rel=1e-5)


def test_mirrored_tube_gives_the_mirrored_solution() -> None:
    speed = np.linspace(-2, 2, 41)
    one = riemann(SOD_LEFT, SOD_RIGHT, speed)
    other = riemann(SOD_RIGHT, SOD_LEFT, -speed)
    np.testing.assert_allclose(one.density, other.density, rtol=1e-9)
    np.testing.assert_allclose(one.velocity, -other.velocity, atol=1e-9)


def test_states_that_cannot_be() -> None:
    with pytest.raises(UserError, match="vacuum"):
        riemann(GasState(1, -20, 1), GasState(1, 20, 1), np.zeros(1))
    with pytest.raises(UserError, match="left state"):
        riemann(GasState(-1, 0, 1), SOD_RIGHT, np.zeros(1))


def test_sedov_coefficient_follows_from_the_profile() -> None:
    """The energy inside must be the energy of the explosion."""
    fraction = (np.arange(20_000) + 0.5) / 20_000
    density, velocity, pressure = sedov_profile(fraction)
    energy = 4 * np.pi * np.mean((0.5 * density * velocity**2 + 1.5 * pressure) * fraction**2)
    assert (6.25 / energy) ** 0.2 == pytest.approx(SEDOV_COEFFICIENT, rel=2e-5)
    assert pytest.approx(1.152, rel=1e-3) == SEDOV_COEFFICIENT


def test_sedov_profile_keeps_the_mass_swept_up() -> None:
    fraction = (np.arange(20_000) + 0.5) / 20_000
    assert 3 * np.mean(sedov_profile(fraction).density * fraction**2) == pytest.approx(1.0, rel=1e-4)


def test_sedov_profile_at_shock_and_centre() -> None:
    density, velocity, pressure = sedov_profile(np.array([1e-4, 1.0, 1.5]))
    np.testing.assert_allclose(density, [0, 4, 1], atol=1e-6)
    np.testing.assert_allclose(velocity, [0, 0.75, 0], atol=1e-3)
    np.testing.assert_allclose(pressure[1:], [0.75, 0], atol=1e-6)
    assert pressure[0] / 0.75 == pytest.approx(0.306, rel=0.01)


def test_sedov_radius_in_astronomers_units() -> None:
    """1e51 erg in 1 m_p cm^-3 after 0.01 Myr: 12.8 pc, by hand in cgs."""
    by_hand = 1.15167 * (1e51 * (0.01 * 3.15576e13) ** 2 / 1.67262e-24) ** 0.2 / 3.08568e18
    assert float(sedov_radius(1e51, 0.024714, 0.01)) == pytest.approx(by_hand, rel=1e-4)


def test_published_fits_of_the_radiative_remnant() -> None:
    assert shell_formation_time(1.0) == pytest.approx(0.044)
    assert shell_formation_radius(1.0) == pytest.approx(22.6)
    assert terminal_momentum(1.0) == pytest.approx(2.8e5)
    assert shell_formation_time(44.5) == pytest.approx(0.044 * 44.5**-0.55)
    assert terminal_momentum(1.0, 2e51) == pytest.approx(2.8e5 * 2**0.93)
