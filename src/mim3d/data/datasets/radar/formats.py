"""Which reader a radar file is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mim3d.data import npz
from mim3d.data.datasets.radar import arrays, hdf5, knmi, meteonet, mrms, odim, pgm, sevir
from mim3d.data.datasets.radar.frames import RadarFrames
from mim3d.errors import UserError

SUFFIXES = (".h5", ".hdf", ".hdf5", ".pgm", ".pgm.gz", ".grib2", ".grb2", ".grib2.gz", ".npz")
"""Endings of the names of radar files."""

_READERS: dict[str, Callable[[Path], list[RadarFrames]]] = {
    "KNMI HDF5": lambda path: [knmi.open_frames(path)],
    "ODIM HDF5": lambda path: [odim.open_frames(path)],
    "SEVIR HDF5": sevir.open_events,
    "FMI PGM": lambda path: [pgm.open_frames(path)],
    "MRMS GRIB2": lambda path: [mrms.open_frames(path)],
    "MeteoNet npz": lambda path: [meteonet.open_frames(path)],
    "npz": lambda path: [arrays.open_frames(path)],
}


def kind(path: Path) -> str | None:
    """Return the format of a file, from its name and content; none where it is of no format of radars.

    Raises
    ------
    UserError
        If its name says HDF5 or npz and its content does not.
    """
    name = path.name.lower()
    if name.endswith((".pgm", ".pgm.gz")):
        return "FMI PGM"
    if name.endswith((".grib2", ".grb2", ".grib2.gz")):
        return "MRMS GRIB2"
    if name.endswith(".npz"):
        there = npz.names(path)
        if {"data", "dates"} <= set(there):
            return "MeteoNet npz"
        return "npz" if "times" in there and set(arrays.QUANTITIES) & set(there) else None
    if name.endswith((".h5", ".hdf", ".hdf5")):
        with hdf5.opened(path) as file:
            for group, found in (("image1", "KNMI HDF5"), ("vil", "SEVIR HDF5"), ("dataset1", "ODIM HDF5")):
                if group in file:
                    return found
    return None


def files(folder: Path) -> Iterator[Path]:
    """Go through the files of a folder, and of those within, whose names end as those of radar files."""
    for path in folder.rglob("*"):
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file():
            yield path


def open_source(source: str | Path) -> list[RadarFrames]:
    """Open a file, or all radar files of a folder and of those within.

    Raises
    ------
    UserError
        If there is none, one is damaged or of no format of radars, or they differ in their grids.
    """
    source = Path(source)
    if not source.exists():
        raise UserError(f"no file or folder {source}")
    paths = sorted(files(source)) if source.is_dir() else [source]
    if not paths:
        raise UserError(f"{source} holds no radar files ({', '.join(SUFFIXES)})")
    found: list[RadarFrames] = []
    for path in paths:
        format_ = kind(path)
        if format_ is None:
            raise UserError(f"{path} is of no known format; read are {', '.join(_READERS)}")
        found += _READERS[format_](path)
    for frames in found:
        if frames.grid != found[0].grid:
            raise UserError(f"{frames.path} is on {frames.grid} pixels, {found[0].path} on {found[0].grid}")
        if (frames.quantity == "vil") != (found[0].quantity == "vil"):
            raise UserError(f"{frames.path} holds {frames.quantity}, {found[0].path} {found[0].quantity}")
    return found
