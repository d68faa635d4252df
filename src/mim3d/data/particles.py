"""Gas particles from HDF5 snapshots: SWIFT, GADGET-2/3/4, GIZMO, AREPO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy import units as u

from mim3d.errors import UserError
from mim3d.supernova.deposit import Particles as Particles
from mim3d.supernova.units import CM_PER_KM, CM_PER_PC, GRAM_PER_MSUN, SECONDS_PER_MYR

GAS = "PartType0"

KERNEL_SUPPORT = {
    "cubic spline": 1.825742,
    "quartic spline": 2.018932,
    "quintic spline": 2.195775,
    "wendland c2": 1.936492,
    "wendland c4": 2.207940,
    "wendland c6": 2.449490,
}
"""Support radius over SWIFT's smoothing length in 3-D (Dehnen & Aly 2012, MNRAS 425, 1068, table 1)."""

# A support that holds 32 particles (or cells) of the volume of this one.
_SUPPORT_PER_PARTICLE_RADIUS = 32 ** (1 / 3)

Unit = u.UnitBase | u.Quantity | str


@dataclass(frozen=True)
class SnapshotUnits:
    """Units of a snapshot, and what turns its comoving numbers into physical ones.

    `scale_factor` and `hubble` are 1 where the simulation is not a cosmological one.
    """

    length_cm: float
    mass_g: float
    velocity_cms: float
    scale_factor: float = 1.0
    hubble: float = 1.0


def is_snapshot(path: str | Path) -> bool:
    """Tell whether an HDF5 file is a snapshot of gas particles."""
    try:
        with h5py.File(path, "r") as file:
            return "Header" in file and any(str(name).startswith("PartType") for name in file)
    except OSError:
        return False


def read_snapshot(
    path: str | Path,
    *,
    unit_length: Unit | None = None,
    unit_mass: Unit | None = None,
    unit_velocity: Unit | None = None,
) -> Particles:
    """Read the gas of a snapshot.

    Units come from the file: SWIFT writes them beside every field; GADGET-4, AREPO and new GIZMO in
    `/Parameters` or `/Header`. GADGET-2/3 and old GIZMO write none: then the three units have to be given.
    Comoving lengths, masses in 1/h and velocities in sqrt(a) of cosmological simulations are turned into
    physical ones.

    Parameters
    ----------
    path
        One file. Of a snapshot in several files (`snap_007.0.hdf5`, `snap_007.1.hdf5`, ...) any one of them;
        all are read.
    unit_length, unit_mass, unit_velocity
        Units that the file's numbers are in, for instance `"kpc"`, `"1e10 Msun"`, `"km/s"`; only for files
        that don't say.

    Returns
    -------
    Particles
        Gas particles in pc, Msun and km/s. Where `ParticleIDs` are missing, ids are places in the file.
        Smoothing lengths are turned into support radii: SWIFT's times the number for its kernel; GADGET's
        are support radii already; of a moving mesh (`Volume`, or `Density` without smoothing lengths) the
        sphere of 32 cells; with none of these `support_radii_pc` is none and the distance of the 32nd
        neighbour will be used.

    Raises
    ------
    UserError
        If the file is missing, truncated or not a snapshot, holds no gas, lacks a field that is needed, or
        does not state its units and they were not given.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no snapshot {path}")
    given = (unit_length, unit_mass, unit_velocity)
    with _open(path) as file:
        header = _header(file, path)
        num_files = int(_scalar(header.get("NumFilesPerSnapshot", 1)))
        has_ids = _find(file, ("ParticleIDs",)) is not None
        declared = np.atleast_1d(header.get("NumPart_Total", header.get("NumPart_ThisFile", [0]))).astype(
            np.int64
        )
        declared = declared + (np.atleast_1d(header.get("NumPart_Total_HighWord", 0)).astype(np.int64) << 32)
    parts = [_read_part(part, given) for part in _parts(path, num_files)]
    parts = [part for part in parts if part is not None]
    if not parts:
        raise UserError(f"{path} holds no gas ({GAS}): its particle numbers are {declared.tolist()}")
    particles = parts[0] if len(parts) == 1 else _join(parts)
    if not has_ids:
        particles = replace(particles, ids=np.arange(len(particles)))
    if int(declared[0]) not in (0, len(particles)):
        raise UserError(
            f"{path} announces {int(declared[0])} gas particles but {len(particles)} are there: "
            f"a file is missing or not whole"
        )
    return particles


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is not a whole HDF5 file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _header(file: h5py.File, path: Path) -> dict[str, Any]:
    if "Header" not in file:
        raise UserError(
            f"{path} is not a snapshot: it has no group Header, but {', '.join(file) or 'nothing'}"
        )
    return dict(file["Header"].attrs)


def _scalar(value: Any) -> float:
    """Attributes come as numbers, as arrays of one, or as text."""
    first = np.ravel(value)[0]
    return float(first.decode() if isinstance(first, bytes) else first)


def _text(value: Any) -> str:
    first = np.ravel(value)[0]
    return first.decode() if isinstance(first, bytes) else str(first)


def _parts(path: Path, num_files: int) -> list[Path]:
    """All files of the snapshot that `path` belongs to."""
    if num_files <= 1:
        return [path]
    match = re.fullmatch(r"(.*)\.(\d+)(\.(?:hdf5|h5))", path.name)
    if match is None:
        raise UserError(
            f"{path} is one of {num_files} files of a snapshot, but its name doesn't end in .0.hdf5 or the "
            f"like, so the others can't be found"
        )
    parts = [path.with_name(f"{match[1]}.{index}{match[3]}") for index in range(num_files)]
    for part in parts:
        if not part.is_file():
            raise UserError(f"{path} is one of {num_files} files of a snapshot, and {part.name} is missing")
    return parts


def _read_part(path: Path, given: tuple[Unit | None, ...]) -> Particles | None:
    """Gas of one file; none where it holds no gas."""
    with _open(path) as file:
        header = _header(file, path)
        positions = _find(file, ("Coordinates",))
        if positions is None or len(positions) == 0:
            return None
        try:
            if "Units" in file:
                return _read_swift(file, header, path)
            return _read_gadget(file, header, path, given)
        except UserError as error:
            raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
        except (OSError, KeyError, RuntimeError) as error:
            raise UserError(f"{path} can't be read, it may be truncated: {_first_line(error)}") from error


def _field(file: h5py.File, names: tuple[str, ...], path: Path) -> h5py.Dataset:
    found = _find(file, names)
    if found is None:
        raise UserError(
            f"{path} has no {GAS}/{' or '.join(names)}; there are: {', '.join(sorted(_gas(file)))}"
        )
    return found


def _find(file: h5py.File, names: tuple[str, ...]) -> h5py.Dataset | None:
    group = _gas(file)
    found = next((group[name] for name in names if name in group), None)
    return found if isinstance(found, h5py.Dataset) else None


def _gas(file: h5py.File) -> Mapping[str, Any]:
    group = file.get(GAS)
    return group if isinstance(group, h5py.Group) else {}


def _ids(file: h5py.File, count: int) -> np.ndarray:
    found = _find(file, ("ParticleIDs",))
    return np.arange(count) if found is None else np.asarray(found)


def _read_swift(file: h5py.File, header: Mapping[str, Any], path: Path) -> Particles:
    units = dict(file["Units"].attrs)
    try:
        length_cm = _scalar(units["Unit length in cgs (U_L)"])
        mass_g = _scalar(units["Unit mass in cgs (U_M)"])
        time_s = _scalar(units["Unit time in cgs (U_t)"])
    except KeyError as error:
        raise UserError(f"{path} has a group Units without the attribute {error}") from error
    scale_factor = _scalar(header.get("Scale-factor", 1.0))
    is_cosmological = "Cosmology" in file and bool(
        _scalar(file["Cosmology"].attrs.get("Cosmological run", 0))
    )

    def physical(names: tuple[str, ...], unit_cgs: float, to: float) -> np.ndarray | None:
        """One field; the factor beside it wins over the units of the file."""
        found = _find(file, names)
        if found is None:
            return None
        key = "Conversion factor to physical CGS (including cosmological corrections)"
        if key in found.attrs:
            unit_cgs = _scalar(found.attrs[key])
        elif is_cosmological and abs(scale_factor - 1) > 1e-6:
            raise UserError(f"{path}: {found.name} is comoving and lacks the attribute {key!r}")
        return np.asarray(found, dtype=np.float64) * (unit_cgs / to)

    velocity_cms = length_cm / time_s
    positions = physical(("Coordinates",), length_cm, CM_PER_PC)
    masses = physical(("Masses",), mass_g, GRAM_PER_MSUN)
    velocities = physical(("Velocities",), velocity_cms, CM_PER_KM)
    lengths = physical(("SmoothingLengths", "SmoothingLength"), length_cm, CM_PER_PC)
    energies = physical(("InternalEnergies", "InternalEnergy"), velocity_cms**2, CM_PER_KM**2)
    if positions is None or masses is None or velocities is None:
        for name in ("Coordinates", "Masses", "Velocities"):
            _field(file, (name,), path)
        raise UserError(f"{path} can't be read")
    if lengths is not None:
        lengths = lengths * _swift_kernel_support(file)
    box = np.broadcast_to(np.asarray(header.get("BoxSize", 0.0), dtype=np.float64), (3,))
    box = box * (length_cm / CM_PER_PC * (scale_factor if is_cosmological else 1.0))
    parameters = dict(file["Parameters"].attrs) if "Parameters" in file else {}
    is_periodic = _text(parameters.get("InitialConditions:periodic", "1")).strip() not in ("0", "no", "false")
    return Particles(
        positions_pc=positions,
        masses_msun=masses,
        velocities_kms=velocities,
        ids=_ids(file, len(masses)),
        internal_energies_kms2=energies,
        support_radii_pc=lengths,
        box_size_pc=_periodic_box(box) if is_periodic else None,
        time_myr=None if is_cosmological else _scalar(header.get("Time", 0.0)) * time_s / SECONDS_PER_MYR,
    )


def _swift_kernel_support(file: h5py.File) -> float:
    scheme = dict(file["HydroScheme"].attrs) if "HydroScheme" in file else {}
    name = _text(scheme.get("Kernel function", "Cubic spline (M4)")).lower().replace("-", " ")
    for known, support in KERNEL_SUPPORT.items():
        if known in name:
            return support
    raise UserError(f"unknown SPH kernel {name!r}; known are: {', '.join(KERNEL_SUPPORT)}")


def _periodic_box(box: np.ndarray) -> tuple[float, float, float] | None:
    if not np.all(box > 0):
        return None
    x, y, z = (float(side) for side in box)
    return (x, y, z)


def _read_gadget(
    file: h5py.File, header: Mapping[str, Any], path: Path, given: tuple[Unit | None, ...]
) -> Particles:
    units = _gadget_units(file, header, path, given)
    scale_factor, hubble = units.scale_factor, units.hubble
    to_pc = units.length_cm / CM_PER_PC * scale_factor / hubble
    to_msun = units.mass_g / GRAM_PER_MSUN / hubble
    # Velocities are stored over sqrt(a), so that they are peculiar after multiplication.
    to_kms = units.velocity_cms / CM_PER_KM * np.sqrt(scale_factor)
    to_kms2 = (units.velocity_cms / CM_PER_KM) ** 2
    positions = np.asarray(_field(file, ("Coordinates",), path), dtype=np.float64)
    count = len(positions)
    mass_of_all = float(np.atleast_1d(header.get("MassTable", [0.0]))[0])
    if mass_of_all > 0:
        masses = np.full(count, mass_of_all)
    else:
        masses = np.asarray(_field(file, ("Masses",), path), dtype=np.float64)
    velocities = np.asarray(_field(file, ("Velocities",), path), dtype=np.float64)
    energies = _find(file, ("InternalEnergy",))
    box = np.broadcast_to(np.asarray(header.get("BoxSize", 0.0), dtype=np.float64), (3,))
    config = dict(file["Config"].attrs) if "Config" in file else None
    if config is not None:
        # GADGET-4 is periodic if told so, AREPO (the one with a Voronoi mesh) unless told otherwise.
        is_reflective = any(key.startswith("REFLECTIVE") for key in config)
        is_periodic = "PERIODIC" in config or ("VORONOI" in config and not is_reflective)
    else:
        # Nothing in the file says; gas outside of the box would be proof that it isn't periodic.
        is_periodic = bool(np.all((positions >= 0) & (positions <= box)))
    is_cosmological = scale_factor != 1 or hubble != 1
    code_time_s = units.length_cm / units.velocity_cms
    return Particles(
        positions_pc=positions * to_pc,
        masses_msun=masses * to_msun,
        velocities_kms=velocities * to_kms,
        ids=_ids(file, count),
        internal_energies_kms2=None if energies is None else np.asarray(energies, dtype=np.float64) * to_kms2,
        support_radii_pc=_gadget_support(file, masses, to_pc),
        box_size_pc=_periodic_box(box * to_pc) if is_periodic else None,
        time_myr=None
        if is_cosmological
        else _scalar(header.get("Time", 0.0)) * code_time_s / SECONDS_PER_MYR,
    )


def _gadget_support(file: h5py.File, masses: np.ndarray, to_pc: float) -> np.ndarray | None:
    """Support radii [pc], from whatever the file has."""
    lengths = _find(file, ("SmoothingLength",))
    if lengths is not None:
        return np.asarray(lengths, dtype=np.float64) * to_pc
    volume, density = _find(file, ("Volume",)), _find(file, ("Density",))
    if volume is not None:
        volumes = np.asarray(volume, dtype=np.float64)
    elif density is not None:
        volumes = masses / np.asarray(density, dtype=np.float64)
    else:
        return None
    return _SUPPORT_PER_PARTICLE_RADIUS * np.cbrt(3 * volumes / (4 * np.pi)) * to_pc


def _gadget_units(
    file: h5py.File, header: Mapping[str, Any], path: Path, given: tuple[Unit | None, ...]
) -> SnapshotUnits:
    parameters = dict(file["Parameters"].attrs) if "Parameters" in file else {}
    stated = {**header, **parameters}

    def stated_unit(*names: str) -> float | None:
        return next((_scalar(stated[name]) for name in names if name in stated), None)

    in_file = (
        stated_unit("UnitLength_in_cm", "UnitLength_In_CGS"),
        stated_unit("UnitMass_in_g", "UnitMass_In_CGS"),
        stated_unit("UnitVelocity_in_cm_per_s", "UnitVelocity_In_CGS"),
    )
    names = ("unit_length", "unit_mass", "unit_velocity")
    cgs = (u.cm, u.g, u.cm / u.s)
    values = []
    for name, unit, stated_value, given_unit in zip(names, cgs, in_file, given, strict=True):
        given_value = None if given_unit is None else _in_cgs(given_unit, unit, name)
        if stated_value is None and given_value is None:
            raise UserError(
                f"{path} does not state its units: give unit_length, unit_mass and unit_velocity, on the "
                "command line as --units length=kpc mass=1e10Msun velocity=km/s (GADGET's own defaults); "
                f"{name} is missing"
            )
        if (
            stated_value is not None
            and given_value is not None
            and abs(given_value / stated_value - 1) > 0.01
        ):
            raise UserError(f"{path} says that its {name} is {stated_value:g} {unit}, not {given_unit}")
        values.append(given_value if stated_value is None else stated_value)
    length_cm, mass_g, velocity_cms = values

    # Only a cosmological run has a scale factor for its time; old headers don't say which kind they are.
    redshift = _scalar(header.get("Redshift", 0.0))
    time = _scalar(header.get("Time", 1.0))
    if "ComovingIntegrationOn" in stated:
        is_cosmological = bool(_scalar(stated["ComovingIntegrationOn"]))
    else:
        is_cosmological = _scalar(stated.get("Omega0", stated.get("Omega_Matter", 0.0))) > 0
        is_cosmological = is_cosmological and abs(time * (1 + redshift) - 1) < 1e-3
    if not is_cosmological:
        return SnapshotUnits(length_cm, mass_g, velocity_cms)
    hubble = _scalar(stated.get("HubbleParam", 1.0))
    return SnapshotUnits(length_cm, mass_g, velocity_cms, 1 / (1 + redshift), hubble)


def _in_cgs(unit: Unit, cgs: u.UnitBase, name: str) -> float:
    """Size of a unit in cgs; text such as "1e10 Msun" has a number in front."""
    try:
        known: Any = u.Unit(unit)  # pyright: ignore[reportArgumentType]
        return float(known.to(cgs))
    except (u.UnitConversionError, TypeError, ValueError) as error:
        raise UserError(f"{name} {str(unit)!r} is not a unit that can be turned into {cgs}") from error


def _join(parts: list[Particles]) -> Particles:
    """Particles of all files of one snapshot."""

    def together(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        known = [array for array in arrays if array is not None]
        return np.concatenate(known) if len(known) == len(arrays) else None

    names = (
        "positions_pc",
        "masses_msun",
        "velocities_kms",
        "ids",
        "internal_energies_kms2",
        "support_radii_pc",
    )
    return replace(parts[0], **{name: together(name) for name in names})
