"""Scores of a whole remnant: against made-up gas whose mass, heat, momentum and shell are known."""

import numpy as np
import pytest
from astropy import units as u

from mim3d.fields import Trajectory
from mim3d.metrics import distribution_distance, power_spectrum, remnant_scores
from mim3d.metrics.gas import thermal_pressure
from mim3d.supernova.analytic import sedov_radius
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as PER_CM3

GRID, BOX = 24, 60.0


def distances():
    centres = (np.arange(GRID) + 0.5) * BOX / GRID - BOX / 2
    axes = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1)
    return axes, np.linalg.norm(axes, axis=-1)


def remnant(radii, times, number_density=10.0, speed=10.0, temperature=100.0, **options):
    """A thin cavity, a shell of three times the density, gas that flows outwards inside of it."""
    axes, r = distances()
    density, velocity, heat = [], [], []
    for radius in radii:
        ratio = np.where(r < radius - 1.5, 0.01, 1 + 2 * np.exp(-0.5 * ((r - radius) / 1.2) ** 2))
        density.append(number_density * PER_CM3 * (ratio if radius > 0 else np.ones_like(r)))
        velocity.append(np.where((r < radius)[..., None], speed * axes / r[..., None], 0.0))
        heat.append(np.where(r < radius, temperature, 100.0))
    return Trajectory(
        fields={"density": np.array(density), "velocity": np.array(velocity), "temperature": np.array(heat)},
        units={"density": u.Msun / u.pc**3, "velocity": u.km / u.s, "temperature": u.K},
        times=np.asarray(times, dtype=float),
        box_size=(BOX,) * 3,
        parameters={"explosion_energy": 1e51 * u.erg},
        **options,
    )


def test_a_perfect_forecast_deviates_nowhere():
    truth = remnant([9.0, 14.0], [0.02, 0.1])
    scores = remnant_scores(truth, truth, remnant([0.0], [0.0]))
    for name in (
        "shell_radius_deviation",
        "shell_ray_error",
        "shell_quadrupole_error",
        "cavity_volume_deviation",
        "mass_deviation",
        "radial_momentum_deviation",
        "density_distribution_distance",
        "power_spectrum_error",
    ):
        np.testing.assert_allclose(scores[name], 0, atol=1e-9, err_msg=name)


def test_deviations_are_forecast_over_simulation():
    initial = remnant([0.0], [0.0])
    truth = remnant([10.0, 12.0], [0.05, 0.1], temperature=1000.0)
    made = remnant([10.0, 15.0], [0.05, 0.1], speed=12.0, temperature=1900.0)
    scores = remnant_scores(made, truth, initial)
    assert scores["shell_radius_deviation"][0] == pytest.approx(0, abs=1e-9)
    assert scores["shell_radius_deviation"][1] == pytest.approx(0.25, abs=0.05)
    assert scores["shell_ray_error"][1] == pytest.approx(0.3, abs=0.1)
    assert scores["cavity_volume_deviation"][1] > 0.5
    assert scores["radial_momentum_deviation"][0] == pytest.approx(0.2, rel=1e-6)
    # 900 K above the cloud's temperature in the truth, 1800 K in the forecast.
    assert scores["thermal_energy_deviation"][0] == pytest.approx(1, abs=0.25)


def test_frames_that_were_not_simulated_have_no_score():
    truth = remnant([9.0, 14.0], [0.02, 0.1])
    for values in truth.fields.values():
        values[1] = np.nan
    scores = remnant_scores(remnant([9.0, 14.0], [0.02, 0.1]), truth, remnant([0.0], [0.0]))
    for name, values in scores.items():
        if name not in ("shell_quadrupole", "shell_thickness"):
            assert np.isnan(values[1]), name


def test_momentum_of_the_twin_is_not_the_explosions():
    initial = remnant([0.0], [0.0])
    still = remnant([0.0], [0.05])
    wind = Trajectory(
        fields={**still.fields, "velocity": remnant([20.0], [0.05], speed=1.0).fields["velocity"]},
        units=still.units,
        times=still.times,
        box_size=still.box_size,
    )
    truth = remnant([10.0], [0.05], twin=wind)
    made = remnant([10.0], [0.05], speed=20.0)
    without = remnant_scores(made, remnant([10.0], [0.05]), initial)["radial_momentum_deviation"]
    assert without[0] == pytest.approx(1, rel=1e-6)
    # The twin's wind is in both: what is left of the truth is less.
    assert remnant_scores(made, truth, initial)["radial_momentum_deviation"][0] > 1.1


def test_uniform_gas_is_held_to_sedov_until_a_shell_forms():
    times = np.array([0.003, 0.006, 0.1])
    exact = sedov_radius(1e51, 1.0 * PER_CM3, times)
    truth = remnant(exact, times, number_density=1.0)
    scores = remnant_scores(
        remnant(1.1 * exact, times, number_density=1.0), truth, remnant([0.0], [0.0], number_density=1.0)
    )
    deviation = scores["sedov_radius_deviation"] - scores["simulation_sedov_radius_deviation"]
    assert deviation[1] == pytest.approx(0.1, abs=0.03)
    assert scores["simulation_sedov_radius_deviation"][1] == pytest.approx(0.1, abs=0.1)
    # t_sf is 0.044 Myr.
    assert np.isnan(deviation[2])
    rough = remnant([0.0], [0.0])
    rough.fields["density"][0, 0, 0, 0] *= 1.1
    assert "sedov_radius_deviation" not in remnant_scores(truth, truth, rough)


def test_the_distribution_distance_is_the_shift_in_dex():
    density = PER_CM3 * 10 ** np.random.default_rng(1).normal(1, 0.3, (2, 16, 16, 16))
    np.testing.assert_allclose(distribution_distance(density, 2 * density), np.log10(2), atol=0.005)
    # Where the gas is does not matter.
    np.testing.assert_allclose(distribution_distance(density, density[:, ::-1]), 0, atol=1e-12)


def test_the_spectrum_of_a_wave_has_its_power_at_its_wave_number():
    x = np.arange(16) / 16
    logarithm = 0.5 * np.cos(2 * np.pi * 3 * x)[:, None, None] * np.ones((16, 16, 16))
    power = power_spectrum(PER_CM3 * 10 ** logarithm[None])
    assert power.shape == (1, 8)
    assert power[0].argmax() == 2
    modes = sum(
        1
        for i, j, k in np.ndindex(17, 17, 17)
        if round(np.sqrt((i - 8) ** 2 + (j - 8) ** 2 + (k - 8) ** 2)) == 3
    )
    # Parseval: the mean square, 0.125, is shared by the modes of that shell.
    assert power[0, 2] == pytest.approx(0.125 / modes, rel=1e-3)
    assert power[0, 5] < 1e-9


def test_pressure_of_cold_and_hot_gas():
    # k_B T / (mu m_p): 0.65 (km/s)^2 at 100 K in neutral gas.
    assert thermal_pressure(np.array(2.0), np.array(100.0)) == pytest.approx(2 * 0.648, rel=0.01)
