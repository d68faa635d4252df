"""Composites in ODIM HDF5, the format of OPERA (EUMETNET) and of most European weather services.

References
----------
Michelson et al. 2014, EUMETNET OPERA weather radar information model for implementation with the HDF5 file
format, version 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mim3d.data.datasets.radar import hdf5
from mim3d.data.datasets.radar.frames import NO_ECHO, Quantity, RadarFrames
from mim3d.errors import UserError

QUANTITIES: dict[str, Quantity] = {
    "DBZH": "reflectivity",
    "DBZV": "reflectivity",
    "TH": "reflectivity",
    "TV": "reflectivity",
    "RATE": "rain_rate",
    "ACRR": "rain_rate",
}
"""The format's quantities that are read: reflectivity, rain rate, and accumulated rain."""

_OBJECTS = ("COMP", "IMAGE", "CVOL")
"""What is on a map; scans and volumes are in a radar's own coordinates."""


def open_frames(path: Path) -> RadarFrames:
    """Open a file: one frame, the first data set of a quantity of `QUANTITIES`.

    Raises
    ------
    UserError
        If the file is damaged, laid out otherwise, no composite, or of another quantity.
    """
    with hdf5.opened(path) as file:
        kind = hdf5.attribute(file, "what", "object")
        if kind not in _OBJECTS:
            raise UserError(
                f"{path} holds {kind!r}, in the radar's own coordinates; composites on a map are read "
                f"({', '.join(_OBJECTS)})"
            )
        time = _time(path, *(hdf5.attribute(file, "what", name) for name in ("date", "time")))
        found = [name for name in _data_groups(file) if _what(file, name).get("quantity") in QUANTITIES]
        if not found:
            there = [str(_what(file, name).get("quantity")) for name in _data_groups(file)]
            raise UserError(f"{path} holds {', '.join(there) or 'no data'}; read are {', '.join(QUANTITIES)}")
        group = found[0]
        what = _what(file, group)
        for name in ("gain", "offset", "nodata", "undetect"):
            if not isinstance(what.get(name), int | float | np.number):
                raise UserError(f"{path}: {group}/what gives no number {name!r}")
        grid = hdf5.dataset(file, f"{group}/data").shape
        per_hour = _per_hour(path, what) if what["quantity"] == "ACRR" else 1.0
    quantity = QUANTITIES[what["quantity"]]
    read = partial(_read, path, group, quantity, per_hour)
    return RadarFrames(path, quantity, np.array([time]), grid, read)


def _read(path: Path, group: str, quantity: Quantity, per_hour: float, rows: Sequence[int]) -> np.ndarray:
    with hdf5.opened(path) as file:
        raw = hdf5.dataset(file, f"{group}/data")[()]
        what = _what(file, group)
    values = (per_hour * (what["gain"] * raw.astype(np.float64) + what["offset"])).astype(np.float32)
    values[raw == what["undetect"]] = NO_ECHO if quantity == "reflectivity" else 0
    values[raw == what["nodata"]] = np.nan
    return np.stack([values] * len(rows))


def _data_groups(file: h5py.File) -> list[str]:
    """Return `dataset1/data1` and so on, in order of their numbers."""
    return [
        f"{outer}/{inner}" for outer in _numbered(file, "dataset") for inner in _numbered(file[outer], "data")
    ]


def _numbered(group: Any, prefix: str) -> list[str]:
    names = [
        str(name) for name, member in group.items() if isinstance(member, h5py.Group) and prefix in str(name)
    ]
    numbers = {name.removeprefix(prefix): name for name in names}
    return [numbers[text] for text in sorted(filter(str.isdigit, numbers), key=int)]


def _what(file: h5py.File, group: str) -> dict[str, Any]:
    """Return the attributes of `what`; those of the inner group go before those of the outer."""
    outer = group.split("/")[0]
    names: dict[str, str] = {}
    for where in (f"{outer}/what", f"{group}/what"):
        found: Any = file.get(where)
        names |= dict.fromkeys(found.attrs if found is not None else (), where)
    return {name: hdf5.attribute(file, where, name) for name, where in names.items()}


def _per_hour(path: Path, what: dict[str, Any]) -> float:
    """Return how many times an hour is longer than the time that rain was accumulated in."""
    start, end = (
        _time(path, what.get(f"{which}date", ""), what.get(f"{which}time", "")) for which in ("start", "end")
    )
    if not end > start:
        raise UserError(f"{path}: rain was accumulated from {start} to {end}, no time at all")
    return float(np.timedelta64(1, "h") / (end - start))


def _time(path: Path, date: str, time: str) -> np.datetime64:
    try:
        return np.datetime64(
            f"{date[:4]}-{date[4:6]}-{date[6:8]}T{time[:2]}:{time[2:4]}:{time[4:6] or '00'}", "s"
        )
    except ValueError as error:
        raise UserError(f"{path}: {date!r} and {time!r} are not YYYYMMDD and HHMMSS") from error
