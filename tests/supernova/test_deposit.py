from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st

from mim3d.errors import UserError
from mim3d.supernova.cooling import theta_of_temperature
from mim3d.supernova.deposit import (
    KERNELS,
    Kernel,
    Particles,
    deposit,
    neighbour_radii,
    particles_in,
)

CENTER = (30.0, 30.0, 30.0)


def particles_at(
    positions: np.ndarray,
    support: float | np.ndarray | None = 3.0,
    box: float | None = None,
    energy: float = 10.0,
) -> Particles:
    count = len(positions)
    return Particles(
        positions_pc=positions,
        masses_msun=np.ones(count),
        velocities_kms=np.zeros((count, 3)),
        ids=np.arange(count) + 1000,
        internal_energies_kms2=np.full(count, energy),
        support_radii_pc=None if support is None else np.broadcast_to(support, (count,)).copy(),
        box_size_pc=None if box is None else (box,) * 3,
    )


def total_mass(density: np.ndarray, side: float) -> float:
    return float(density.sum(dtype=np.float64)) * side**3 / density.size


@pytest.mark.parametrize("name", ["wendland_c2", "cubic_spline"])
def test_kernels_integrate_to_one(name: str) -> None:
    fraction = (np.arange(20_000) + 0.5) / 20_000
    assert 4 * np.pi * np.mean(KERNELS[name](fraction) * fraction**2) == pytest.approx(1.0, rel=1e-6)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), support=st.floats(0.01, 12.0), grid=st.sampled_from([8, 15, 32]))
def test_mass_momentum_and_energy_are_conserved(seed: int, support: float, grid: int) -> None:
    """All particles, with their kernels, inside the box: nothing may be lost, whatever the support."""
    generator = np.random.default_rng(seed)
    gas = particles_at(generator.uniform(16, 44, (60, 3)), support)
    gas = replace(
        gas, masses_msun=generator.uniform(0.1, 5, 60), velocities_kms=generator.normal(0, 10, (60, 3))
    )
    frame = deposit(gas, CENTER, 60.0, grid)
    voxel_volume = (60 / grid) ** 3
    is_gas = frame.fields["density"] > 0
    assert is_gas.all()
    filled = frame.parameters["filled_mass"].to_value(u.Msun)
    density = frame.fields["density"].astype(np.float64)
    tolerance = 2e-3 if support > 8 * 60 / grid else 1e-5
    assert density.sum() * voxel_volume - filled == pytest.approx(gas.masses_msun.sum(), rel=tolerance)
    if filled == 0:
        momentum = (density[..., None] * frame.fields["velocity"]).sum(axis=(0, 1, 2, 3)) * voxel_volume
        expected = gas.masses_msun @ gas.velocities_kms
        np.testing.assert_allclose(momentum, expected, atol=tolerance * gas.masses_msun.sum() * 30)
        heat = 1.5 * frame.fields["pressure"].astype(np.float64).sum() * voxel_volume
        assert heat == pytest.approx(10 * gas.masses_msun.sum(), rel=tolerance)


def test_half_of_a_particle_on_the_edge_is_outside() -> None:
    gas = particles_at(np.array([[0.0, 30.0, 30.0]]), support=10.0)
    frame = deposit(gas, CENTER, 60.0, 32)
    filled = frame.parameters["filled_mass"].to_value(u.Msun)
    assert total_mass(frame.fields["density"], 60.0) - filled == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("kernel", ["wendland_c2", "cubic_spline"])
@pytest.mark.parametrize("spacing", [0.8, 1.7, 2.9])
def test_uniform_lattice_is_uniform(spacing: float, kernel: Kernel) -> None:
    """Periodic lattice of 1 Msun each, support of 32 neighbours; voxels of 1.875 pc."""
    count = round(60 / spacing)
    line = (np.arange(count) + 0.37) * 60 / count
    positions = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    support = (3 * 32 / (4 * np.pi)) ** (1 / 3) * 60 / count
    frame = deposit(particles_at(positions, support, box=60.0), CENTER, 60.0, 32, kernel=kernel)
    density = frame.fields["density"]
    expected = (count / 60) ** 3
    assert total_mass(density, 60.0) == pytest.approx(count**3, rel=1e-5)
    assert np.abs(density / expected - 1).max() < 0.15
    assert density.std() / expected < 0.05


def test_gaussian_blob() -> None:
    """Random particles of a Gaussian: the density profile within a few percent, the smoothing counted in."""
    generator = np.random.default_rng(5)
    width, count = 6.0, 100_000
    positions = generator.normal(30.0, width, (count, 3))
    gas = particles_at(positions, support=None)
    frame = deposit(gas, CENTER, 60.0, 32)
    centres = (np.arange(32) + 0.5) * 60 / 32 - 30
    x, y, z = np.meshgrid(centres, centres, centres, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    exact = count / (2 * np.pi * width**2) ** 1.5 * np.exp(-(radius**2) / (2 * width**2))
    density = frame.fields["density"][0]
    for low, high in ((0, 4), (4, 8), (8, 12), (12, 15)):
        ring = (radius >= low) & (radius < high)
        assert density[ring].mean() == pytest.approx(exact[ring].mean(), rel=0.05)
    assert np.all(density > 0)


def test_velocity_and_temperature_of_two_streams() -> None:
    left = particles_at(np.random.default_rng(0).uniform((0, 0, 0), (28, 60, 60), (20_000, 3)), energy=1.5)
    right = particles_at(np.random.default_rng(1).uniform((32, 0, 0), (60, 60, 60), (20_000, 3)))
    both = Particles(
        positions_pc=np.concatenate([left.positions_pc, right.positions_pc]),
        masses_msun=np.ones(40_000),
        velocities_kms=np.repeat([[5.0, 0.0, 0.0], [-5.0, 0.0, 1.0]], 20_000, axis=0),
        ids=np.arange(40_000),
        internal_energies_kms2=np.repeat([1.5, 1500.0], 20_000),
        support_radii_pc=np.full(40_000, 3.0),
    )
    frame = deposit(both, CENTER, 60.0, 16)
    np.testing.assert_allclose(
        frame.fields["velocity"][0, :5], np.broadcast_to([5, 0, 0], (5, 16, 16, 3)), atol=1e-5
    )
    np.testing.assert_allclose(frame.fields["velocity"][0, 12:, ..., 0], -5, atol=1e-5)
    # 3/2 kT / (mu m_p): 1.5 (km/s)^2 is neutral gas at 154 K, 1500 (km/s)^2 ionised gas at 73 700 K.
    np.testing.assert_allclose(frame.fields["temperature"][0, :5], 154.2, rtol=0.01)
    np.testing.assert_allclose(frame.fields["temperature"][0, 12:], 7.374e4, rtol=0.01)
    theta = theta_of_temperature(frame.fields["temperature"])
    np.testing.assert_allclose(frame.fields["pressure"], frame.fields["density"] * theta, rtol=1e-4)


def test_box_around_the_corner_of_a_periodic_snapshot() -> None:
    """Around a corner, the box sees the same gas as around the same place in the middle."""
    generator = np.random.default_rng(2)
    positions = generator.uniform(0, 100, (30_000, 3))
    shifted = np.mod(positions + 50.0, 100.0)
    middle = deposit(particles_at(positions, 6.0, box=100.0), (50.0,) * 3, 60.0, 16)
    corner = deposit(particles_at(shifted, 6.0, box=100.0), (0.0,) * 3, 60.0, 16)
    np.testing.assert_allclose(middle.fields["density"], corner.fields["density"], rtol=1e-4)
    assert corner.origin == (-30.0,) * 3
    assert corner.site == (0.0,) * 3


def test_whole_periodic_box_keeps_all_mass() -> None:
    positions = np.random.default_rng(2).uniform(0, 60, (5000, 3))
    frame = deposit(particles_at(positions, 9.0, box=60.0), (3.0, 50.0, 30.0), 60.0, 12)
    assert total_mass(frame.fields["density"], 60.0) == pytest.approx(5000, rel=1e-5)


def test_voxels_without_particles_are_filled() -> None:
    """A hole larger than every kernel: density, velocity and temperature are still there, and it is said."""
    generator = np.random.default_rng(0)
    positions = generator.uniform(0, 60, (40_000, 3))
    positions = positions[np.linalg.norm(positions - 30, axis=1) > 12]
    frame = deposit(particles_at(positions, 2.5), CENTER, 60.0, 32)
    density = frame.fields["density"][0]
    assert int(frame.parameters["filled_voxels"].value) > 50
    assert np.all(density > 0)
    assert density[16, 16, 16] < 0.05 * density.mean()
    assert np.all(np.isfinite(frame.fields["temperature"]))
    assert frame.parameters["filled_mass"].to_value(u.Msun) < 0.05 * len(positions)


def test_ids_of_a_sphere() -> None:
    generator = np.random.default_rng(7)
    gas = particles_at(generator.uniform(0, 60, (20_000, 3)))
    centres = (np.arange(64) + 0.5) * 60 / 64 - 30
    x, y, z = np.meshgrid(centres, centres, centres, indexing="ij")
    ids = particles_in(x**2 + y**2 + z**2 < 15**2, gas, CENTER, 60.0)
    radius = np.linalg.norm(gas.positions_pc - 30, axis=1)
    found = np.isin(gas.ids, ids)
    assert np.all(found[radius < 15 - 0.82])
    assert not np.any(found[radius > 15 + 0.82])


def test_ids_across_the_edge_of_a_periodic_box() -> None:
    gas = particles_at(np.array([[1.0, 50.0, 50.0], [99.0, 50.0, 50.0], [50.0, 50.0, 50.0]]), box=100.0)
    ids = particles_in(np.ones((4, 4, 4), dtype=bool), gas, (0.0, 50.0, 50.0), 20.0)
    np.testing.assert_array_equal(ids, [1000, 1001])


def test_neighbour_radii_of_a_periodic_lattice() -> None:
    line = np.arange(8) + 0.5
    positions = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    # The particle itself, 6 neighbours at 1, 12 at sqrt 2, 8 at sqrt 3, 6 at 2: the 32nd is at 2.
    np.testing.assert_allclose(neighbour_radii(positions, box_size_pc=(8.0,) * 3), 2.0)


def test_select_keeps_rows_together() -> None:
    gas = particles_at(np.arange(30.0).reshape(10, 3)).select(np.array([3, 7]))
    np.testing.assert_array_equal(gas.ids, [1003, 1007])
    assert len(gas) == 2
    assert gas.positions_pc[1, 0] == 21


def test_mistakes_are_named() -> None:
    gas = particles_at(np.full((10, 3), 500.0) + np.arange(10)[:, None])
    with pytest.raises(UserError, match="no gas particle in the box"):
        deposit(gas, CENTER, 60.0, 8)
    with pytest.raises(UserError, match="larger than the snapshot"):
        deposit(particles_at(np.full((10, 3), 5.0), box=20.0), (10.0,) * 3, 60.0, 8)
    with pytest.raises(UserError, match="kernel"):
        deposit(gas, CENTER, 60.0, 8, kernel="gauss")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="box_size"):
        deposit(gas, CENTER, -1.0, 8)
    with pytest.raises(UserError, match=r"masses_msun must be > 0.*particle 2"):
        replace(gas, masses_msun=np.array([1.0, 1, -1] + [1.0] * 7))
    with pytest.raises(UserError, match="positions_pc must be finite"):
        replace(gas, positions_pc=np.full((10, 3), np.nan))
    with pytest.raises(UserError, match="shape"):
        replace(gas, ids=np.arange(3))
