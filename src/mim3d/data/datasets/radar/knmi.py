"""Composites of KNMI in its own HDF5: rain of 5 minutes, or reflectivity.

The format is KNMI's HDF5 data format specification (Roozekrans & Holleman, KNMI TR-264).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from mim3d.data.datasets.radar import hdf5
from mim3d.data.datasets.radar.frames import RadarFrames
from mim3d.errors import UserError

_IMAGE = "image1/image_data"
_CALIBRATION = "image1/calibration"
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_NUMBER = r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_FORMULA = re.compile(rf"\s*GEO\s*=\s*{_NUMBER}\s*\*\s*PV\s*\+\s*{_NUMBER}\s*")


def open_frames(path: Path) -> RadarFrames:
    """Open a file, such as `RAD_NL25_RAP_5min_201008260000.h5`: one frame.

    Accumulated rain [mm] is divided by the time that it was accumulated in; the time of a frame is its end.

    Raises
    ------
    UserError
        If the file is damaged, laid out otherwise, or of another quantity.
    """
    with hdf5.opened(path) as file:
        grid = hdf5.dataset(file, _IMAGE).shape
        measured = hdf5.attribute(file, "image1", "image_geo_parameter")
        start, end = (_time(file, f"product_datetime_{which}") for which in ("start", "end"))
        _formula(file)
    if measured == "REFLECTIVITY_[DBZ]":
        quantity, per_hour = "reflectivity", 1.0
    elif measured == "ACCUMULATED_PRECIPITATION_[MM]":
        if not end > start:
            raise UserError(f"{path}: rain was accumulated from {start} to {end}, no time at all")
        quantity, per_hour = "rain_rate", float(np.timedelta64(1, "h") / (end - start))
    else:
        raise UserError(
            f"{path} holds {measured!r}; REFLECTIVITY_[DBZ] and ACCUMULATED_PRECIPITATION_[MM] are read"
        )
    return RadarFrames(path, quantity, np.array([end]), grid, partial(_read, path, per_hour))


def _read(path: Path, per_hour: float, rows: Sequence[int]) -> np.ndarray:
    with hdf5.opened(path) as file:
        raw = hdf5.dataset(file, _IMAGE)[()]
        gain, offset = _formula(file)
        missing = [
            hdf5.number(file, _CALIBRATION, f"calibration_{which}")
            for which in ("missing_data", "out_of_image")
        ]
    values = (per_hour * (gain * raw + offset)).astype(np.float32)
    values[np.isin(raw, missing)] = np.nan
    return np.stack([values] * len(rows))


def _formula(file: h5py.File) -> tuple[float, float]:
    """Return factor and offset of the formula from pixel to physical values."""
    text = hdf5.attribute(file, _CALIBRATION, "calibration_formulas")
    match = _FORMULA.fullmatch(str(text))
    if match is None:
        raise UserError(f"{file.filename}: calibration_formulas is {text!r}, not like 'GEO=0.01*PV+0.0'")
    return float(match[1]), float(match[2])


def _time(file: h5py.File, name: str) -> np.datetime64:
    """Read a time such as `26-AUG-2010;00:05:00.000`; names of months do not depend on the locale."""
    text = str(hdf5.attribute(file, "overview", name))
    try:
        day, month, rest = text.split("-")
        year, clock = rest.split(";")
        number = _MONTHS.index(month.upper()) + 1
        return np.datetime64(f"{year}-{number:02d}-{int(day):02d}T{clock[:8]}", "s")
    except ValueError as error:
        raise UserError(f"{file.filename}: {name} is {text!r}, not like 26-AUG-2010;00:05:00.000") from error
