from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mim3d.data.particles import is_snapshot, read_snapshot
from mim3d.errors import UserError
from mim3d.supernova.deposit import deposit

KPC, MSUN, KMS, MYR = 3.0856775814913673e21, 1.988409870698051e33, 1e5, 3.15576e13
GENERATOR = np.random.default_rng(11)
COUNT = 500
# In units of kpc, 1e10 Msun, km/s: 60 pc, 1 Msun.
POSITIONS = GENERATOR.uniform(0.0, 0.06, (COUNT, 3))
VELOCITIES = GENERATOR.normal(0, 5, (COUNT, 3))
ENERGIES = GENERATOR.uniform(1, 20, COUNT)
IDS = GENERATOR.permutation(10 * COUNT)[:COUNT].astype(np.uint64)
OWN_UNITS = {"unit_length": "kpc", "unit_mass": "1e10 Msun", "unit_velocity": "km/s"}


def write_gadget(
    path: Path,
    which: slice = slice(None),
    *,
    header: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    fields: dict[str, np.ndarray | None] | None = None,
) -> Path:
    """A GADGET-2 snapshot in HDF5: no units, one mass for all, smoothing lengths of 3 pc."""
    count = len(POSITIONS[which])
    gas: dict[str, np.ndarray | None] = {
        "Coordinates": POSITIONS[which],
        "Velocities": VELOCITIES[which],
        "ParticleIDs": IDS[which],
        "InternalEnergy": ENERGIES[which],
        "SmoothingLength": np.full(count, 0.003),
    }
    gas |= fields or {}
    with h5py.File(path, "w") as file:
        attributes: dict[str, Any] = {
            "NumPart_ThisFile": np.array([count, 0, 0, 0, 0, 0], dtype=np.int32),
            "NumPart_Total": np.array([COUNT, 0, 0, 0, 0, 0], dtype=np.uint32),
            "MassTable": np.array([1e-10, 0, 0, 0, 0, 0]),
            "Time": 0.01,
            "Redshift": 0.0,
            "BoxSize": 0.06,
            "NumFilesPerSnapshot": 1,
            "HubbleParam": 0.7,
            "Omega0": 0.0,
        }
        file.create_group("Header").attrs.update(attributes | (header or {}))
        for name, values in gas.items():
            if values is not None:
                file[f"PartType0/{name}"] = values
        if parameters is not None:
            file.create_group("Parameters").attrs.update(parameters)
    return path


def write_swift(path: Path, *, kernel: bytes = b"Wendland C2", fields: tuple[str, ...] = ()) -> Path:
    """A SWIFT snapshot with a unit of length of 1 pc and of velocity of 2 km/s."""
    pc = KPC / 1000
    with h5py.File(path, "w") as file:
        file.create_group("Header").attrs.update(
            {
                "NumPart_ThisFile": np.array([COUNT, 0, 0, 0, 0, 0, 0]),
                "NumPart_Total": np.array([COUNT, 0, 0, 0, 0, 0, 0]),
                "BoxSize": np.array([60.0, 60.0, 60.0]),
                "Scale-factor": np.array([1.0]),
                "Time": np.array([0.5]),
                "NumFilesPerSnapshot": np.array([1]),
                "Code": b"SWIFT",
            }
        )
        file.create_group("Units").attrs.update(
            {
                "Unit length in cgs (U_L)": np.array([pc]),
                "Unit mass in cgs (U_M)": np.array([MSUN]),
                "Unit time in cgs (U_t)": np.array([pc / (2 * KMS)]),
            }
        )
        file.create_group("HydroScheme").attrs["Kernel function"] = kernel
        file.create_group("Parameters").attrs["InitialConditions:periodic"] = b"1"
        gas = {
            "Coordinates": (POSITIONS * 1000, pc),
            "Velocities": (VELOCITIES / 2, 2 * KMS),
            "Masses": (np.ones(COUNT), MSUN),
            "InternalEnergies": (ENERGIES / 4, 4 * KMS**2),
            "SmoothingLengths": (np.full(COUNT, 1.5), pc),
            "ParticleIDs": (IDS, None),
        }
        for name, (values, factor) in gas.items():
            if name in fields or not fields:
                dataset = file.create_dataset(f"PartType0/{name}", data=values)
                if factor is not None:
                    key = "Conversion factor to physical CGS (including cosmological corrections)"
                    dataset.attrs[key] = np.array([factor])
    return path


def test_gadget_with_given_units(tmp_path: Path) -> None:
    gas = read_snapshot(write_gadget(tmp_path / "snap.hdf5"), **OWN_UNITS)
    np.testing.assert_allclose(gas.positions_pc, POSITIONS * 1000, rtol=1e-9)
    np.testing.assert_allclose(gas.masses_msun, 1.0, rtol=1e-9)
    np.testing.assert_allclose(gas.velocities_kms, VELOCITIES)
    np.testing.assert_allclose(gas.internal_energies_kms2, ENERGIES)
    np.testing.assert_allclose(gas.support_radii_pc, 3.0)
    np.testing.assert_array_equal(gas.ids, IDS)
    assert gas.box_size_pc == pytest.approx((60.0,) * 3)
    # 0.01 kpc/(km/s).
    assert gas.time_myr == pytest.approx(0.01 * KPC / KMS / MYR)


def test_swift_states_its_own_units(tmp_path: Path) -> None:
    gas = read_snapshot(write_swift(tmp_path / "snap.hdf5"))
    np.testing.assert_allclose(gas.positions_pc, POSITIONS * 1000)
    np.testing.assert_allclose(gas.masses_msun, 1.0)
    np.testing.assert_allclose(gas.velocities_kms, VELOCITIES)
    np.testing.assert_allclose(gas.internal_energies_kms2, ENERGIES)
    np.testing.assert_allclose(gas.support_radii_pc, 1.936492 * 1.5)
    np.testing.assert_array_equal(gas.ids, IDS)
    assert gas.box_size_pc == pytest.approx((60.0,) * 3)
    assert gas.time_myr == pytest.approx(0.5 * 0.977792 / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("kernel", "support"),
    [(b"Cubic spline (M4)", 1.825742), (b"Quartic spline (M5)", 2.018932), (b"Wendland-C6", 2.44949)],
)
def test_swift_kernels(tmp_path: Path, kernel: bytes, support: float) -> None:
    gas = read_snapshot(write_swift(tmp_path / "snap.hdf5", kernel=kernel))
    np.testing.assert_allclose(gas.support_radii_pc, support * 1.5)


def test_swift_and_gadget_give_the_same_voxels(tmp_path: Path) -> None:
    swift = read_snapshot(write_swift(tmp_path / "swift.hdf5"))
    length = np.full(COUNT, 1.936492 * 1.5e-3)
    gadget = read_snapshot(
        write_gadget(tmp_path / "gadget.hdf5", fields={"SmoothingLength": length}), **OWN_UNITS
    )
    frames = [deposit(gas, (30.0,) * 3, 60.0, 8) for gas in (swift, gadget)]
    for name in ("density", "velocity", "temperature"):
        np.testing.assert_allclose(frames[0].fields[name], frames[1].fields[name], rtol=1e-4, atol=1e-5)


def test_gadget4_states_its_units_in_parameters(tmp_path: Path) -> None:
    parameters = {
        "UnitLength_in_cm": KPC,
        "UnitMass_in_g": 1e10 * MSUN,
        "UnitVelocity_in_cm_per_s": KMS,
        "ComovingIntegrationOn": 0,
        "HubbleParam": 0.7,
    }
    path = write_gadget(tmp_path / "snap.hdf5", parameters=parameters)
    gas = read_snapshot(path)
    np.testing.assert_allclose(gas.positions_pc, POSITIONS * 1000)
    np.testing.assert_allclose(gas.masses_msun, 1.0)
    read_snapshot(path, unit_length="kpc")
    with pytest.raises(UserError, match="says that its unit_length"):
        read_snapshot(path, unit_length="pc")


def test_gizmo_states_its_units_in_the_header(tmp_path: Path) -> None:
    header = {"UnitLength_In_CGS": KPC, "UnitMass_In_CGS": 1e10 * MSUN, "UnitVelocity_In_CGS": KMS}
    gas = read_snapshot(write_gadget(tmp_path / "snap.hdf5", header=header))
    np.testing.assert_allclose(gas.positions_pc, POSITIONS * 1000)


def test_cosmological_snapshot_becomes_physical(tmp_path: Path) -> None:
    """z = 3, h = 0.7: lengths times a / h, masses over h, velocities times sqrt(a)."""
    header = {"Time": 0.25, "Redshift": 3.0, "Omega0": 0.3}
    gas = read_snapshot(write_gadget(tmp_path / "snap.hdf5", header=header), **OWN_UNITS)
    np.testing.assert_allclose(gas.positions_pc, POSITIONS * 1000 * 0.25 / 0.7)
    np.testing.assert_allclose(gas.masses_msun, 1 / 0.7)
    np.testing.assert_allclose(gas.velocities_kms, VELOCITIES * 0.5)
    np.testing.assert_allclose(gas.internal_energies_kms2, ENERGIES)
    np.testing.assert_allclose(gas.support_radii_pc, 3.0 * 0.25 / 0.7)
    assert gas.time_myr is None


def test_masses_of_each_particle(tmp_path: Path) -> None:
    masses = GENERATOR.uniform(1e-10, 3e-10, COUNT)
    path = write_gadget(tmp_path / "snap.hdf5", header={"MassTable": np.zeros(6)}, fields={"Masses": masses})
    np.testing.assert_allclose(read_snapshot(path, **OWN_UNITS).masses_msun, masses * 1e10, rtol=1e-9)


def test_moving_mesh_has_cells_for_smoothing_lengths(tmp_path: Path) -> None:
    """AREPO: a cell of 1 pc^3 becomes a support that holds 32 such cells."""
    fields = {"SmoothingLength": None, "Volume": np.full(COUNT, 1e-9)}
    support = read_snapshot(write_gadget(tmp_path / "a.hdf5", fields=fields), **OWN_UNITS).support_radii_pc
    assert support is not None
    np.testing.assert_allclose(4 / 3 * np.pi * support**3, 32.0, rtol=1e-6)
    fields = {"SmoothingLength": None, "Density": np.full(COUNT, 0.1)}
    again = read_snapshot(write_gadget(tmp_path / "b.hdf5", fields=fields), **OWN_UNITS).support_radii_pc
    np.testing.assert_allclose(again, support)


def test_no_smoothing_lengths_at_all(tmp_path: Path) -> None:
    gas = read_snapshot(write_gadget(tmp_path / "a.hdf5", fields={"SmoothingLength": None}), **OWN_UNITS)
    assert gas.support_radii_pc is None
    density = deposit(gas, (30.0,) * 3, 60.0, 8).fields["density"]
    assert density.mean() * 60**3 == pytest.approx(COUNT, rel=0.25)


def test_several_files(tmp_path: Path) -> None:
    header = {"NumFilesPerSnapshot": 3}
    cuts = [slice(0, 100), slice(100, 350), slice(350, None)]
    for index, cut in enumerate(cuts):
        write_gadget(tmp_path / f"snap_007.{index}.hdf5", cut, header=header)
    gas = read_snapshot(tmp_path / "snap_007.1.hdf5", **OWN_UNITS)
    np.testing.assert_array_equal(gas.ids, IDS)
    np.testing.assert_allclose(gas.positions_pc, POSITIONS * 1000)
    (tmp_path / "snap_007.2.hdf5").unlink()
    with pytest.raises(UserError, match=r"snap_007\.2\.hdf5 is missing"):
        read_snapshot(tmp_path / "snap_007.0.hdf5", **OWN_UNITS)


def test_no_ids(tmp_path: Path) -> None:
    gas = read_snapshot(write_gadget(tmp_path / "a.hdf5", fields={"ParticleIDs": None}), **OWN_UNITS)
    np.testing.assert_array_equal(gas.ids, np.arange(COUNT))


def test_no_internal_energy_gives_density_alone(tmp_path: Path) -> None:
    gas = read_snapshot(write_gadget(tmp_path / "a.hdf5", fields={"InternalEnergy": None}), **OWN_UNITS)
    assert gas.temperatures_k is None
    assert set(deposit(gas, (30.0,) * 3, 60.0, 8).fields) == {"density", "velocity"}


def test_units_must_be_explicit(tmp_path: Path) -> None:
    path = write_gadget(tmp_path / "snap.hdf5")
    with pytest.raises(UserError, match="does not state its units: give unit_length"):
        read_snapshot(path)
    with pytest.raises(UserError, match="unit_mass is missing"):
        read_snapshot(path, unit_length="kpc", unit_velocity="km/s")
    with pytest.raises(UserError, match="unit_mass 'kpc' is not a unit"):
        read_snapshot(path, unit_length="kpc", unit_mass="kpc", unit_velocity="km/s")


def damage_nothing(path: Path) -> Path:
    return path


def truncate(path: Path) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def without_file(path: Path) -> Path:
    path.unlink()
    return path


def other_hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["t0_fields/density"] = np.ones(3)
    return path


@pytest.mark.parametrize(
    ("damage", "fields", "header", "message"),
    [
        (without_file, {}, {}, "no snapshot"),
        (truncate, {}, {}, "not a whole HDF5 file"),
        (other_hdf5, {}, {}, "not a snapshot"),
        (damage_nothing, {"Velocities": None}, {}, "has no PartType0/Velocities; there are: Coordinates"),
        (damage_nothing, {}, {"MassTable": np.zeros(6)}, "has no PartType0/Masses"),
        (damage_nothing, {"Coordinates": None}, {}, "holds no gas"),
        (damage_nothing, {}, {"NumPart_Total": np.array([900, 0, 0, 0, 0, 0])}, "announces 900"),
        (damage_nothing, {"InternalEnergy": -ENERGIES}, {}, r"a\.hdf5: internal_energies_kms2 must be > 0"),
        (damage_nothing, {"Coordinates": POSITIONS * np.nan}, {}, "positions_pc must be finite"),
        (damage_nothing, {"Velocities": VELOCITIES[:9]}, {}, "velocities_kms must have shape"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path,
    damage: Callable[[Path], Path],
    fields: dict[str, np.ndarray | None],
    header: dict[str, Any],
    message: str,
) -> None:
    path = damage(write_gadget(tmp_path / "a.hdf5", fields=fields, header=header))
    with pytest.raises(UserError, match=message):
        read_snapshot(path, **OWN_UNITS)


def test_snapshots_are_told_from_other_files(tmp_path: Path) -> None:
    assert is_snapshot(write_gadget(tmp_path / "a.hdf5"))
    assert is_snapshot(write_swift(tmp_path / "b.hdf5"))
    assert not is_snapshot(other_hdf5(tmp_path / "c.hdf5"))
    assert not is_snapshot(tmp_path / "none.hdf5")
