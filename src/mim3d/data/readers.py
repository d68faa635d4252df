"""One door for all files: what a file is follows from its content, not from its name."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import h5py

from mim3d.data import original, well
from mim3d.data.files import existing
from mim3d.errors import UserError
from mim3d.fields import Trajectory

FileKind = Literal["well", "original", "snapshot"]


def kind(path: str | Path) -> FileKind:
    """Tell what a file is by looking into it.

    Returns
    -------
    str
        `"well"`: fields on a grid in The Well's HDF5 layout; `"original"`: npz samples of the original
        programs; `"snapshot"`: particles in HDF5 (GADGET, SWIFT, AREPO and their kin).

    Raises
    ------
    UserError
        If the file is not there, is cut short, or is none of these.
    """
    path = existing(path)
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise UserError(f"{path} is empty")
    if start[:4] == b"PK\x03\x04":
        return _kind_of_zip(path)
    if not h5py.is_hdf5(path):
        raise UserError(f"{path} is neither an HDF5 file nor an npz file")
    try:
        with h5py.File(path, "r", locking=False) as file:
            groups = set(file)
    except OSError as error:
        reason = "is cut short" if "truncated" in str(error) else "is damaged"
        raise UserError(f"{path} {reason}") from error
    if "dimensions" in groups and groups & {"t0_fields", "t1_fields"}:
        return "well"
    if "PartType0" in groups:
        return "snapshot"
    if "Header" in groups:
        raise UserError(f"{path} is a snapshot without gas: it has no group 'PartType0'")
    raise UserError(
        f"{path} is HDF5, but neither in The Well's layout nor a snapshot of particles; "
        f"it holds: {', '.join(sorted(groups)[:8]) or 'nothing'}"
    )


def _kind_of_zip(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is cut short or damaged") from error
    if {"clips.npy", "input_raw_data.npy"} <= names:
        return "original"
    raise UserError(
        f"{path} is not a sample file: it holds {', '.join(sorted(names)[:8]) or 'nothing'}, "
        "not clips, dims and input_raw_data"
    )


def read(
    path: str | Path,
    trajectory: int = 0,
    *,
    units: well.Units | None = None,
    fields: Sequence[str] | None = None,
    box_size: Sequence[float] | None = None,
    time_step: float = 1.0,
) -> Trajectory:
    """Read one trajectory from a file on a grid, whichever of the known kinds it is.

    Parameters
    ----------
    path
        A file in The Well's layout, or an npz of samples.
    trajectory
        Which run or sequence of the file.
    units
        Units of fields, `"time"` and `"length"`, where the file gives none.
    fields
        The Well: which fields to read, all by default. Samples: names of the channels.
    box_size, time_step
        Of samples, which carry neither; see `original.Samples.trajectory`.

    Raises
    ------
    UserError
        If the file cannot be used; particles have no grid, so a snapshot needs a place to look at.
    """
    found = kind(path)
    if found == "well":
        return well.read(path, trajectory, units, fields=fields)
    if found == "original":
        return original.read(path).trajectory(
            trajectory, fields=fields, units=units, box_size=box_size, time_step=time_step
        )
    raise UserError(
        f"{path} holds particles, not a grid: give the place that is to explode "
        "(--center X Y Z; from Python mim3d.data.particles and mim3d.supernova.deposit)"
    )
