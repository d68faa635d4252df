"""MeteoNet of Météo-France: ten days of reflectivity or rain of 5 minutes in an npz file.

The times of the frames are Python's `datetime` objects, pickled by NumPy. They are not unpickled: the pickle
is gone through as a list of instructions, none of which is carried out, and the bytes of the dates are taken.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from mim3d.data import npz
from mim3d.data.datasets.radar.frames import RadarFrames
from mim3d.errors import UserError

MISSING_REFLECTIVITY = 255
MINUTES = 5
_DATE_BYTES = 10
"""Year in two bytes, month, day, hour, minute, second, microseconds in three."""


def open_frames(path: Path) -> RadarFrames:
    """Open a file such as `reflectivity_old_NW_2016_08.3.npz` or `rainfall_SE_2016_08.3.npz`.

    `data` `(T, height, width)` is reflectivity in dBZ, 255 where not measured, or rain in 0.01 mm of 5
    minutes, below 0 where not measured; which of them the file's name says. A compressed file is read into
    memory, one that was written with `numpy.savez` is read from disk as needed.

    Raises
    ------
    UserError
        If the file is damaged, laid out otherwise, or named otherwise.
    """
    if path.name.startswith("reflectivity"):
        quantity = "reflectivity"
    elif path.name.startswith("rainfall"):
        quantity = "rain_rate"
    else:
        raise UserError(f"the name of {path} must begin as MeteoNet's: reflectivity... or rainfall...")
    array = npz.read_array(path, "data")
    if array.ndim != 3 or array.dtype.kind not in "iu" or 0 in array.shape:
        raise UserError(
            f"{path}: data must be whole numbers (T, height, width), found {array.dtype} {array.shape}"
        )
    times = read_dates(path, "dates")
    if len(times) != len(array):
        raise UserError(f"{path} holds {len(array)} frames and {len(times)} dates")
    read = partial(_reflectivity if quantity == "reflectivity" else _rain_rate, array)
    return RadarFrames(path, quantity, times, (array.shape[1], array.shape[2]), read)


def _reflectivity(array: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    raw = array[list(rows)]
    return np.where(raw == MISSING_REFLECTIVITY, np.float32(np.nan), raw.astype(np.float32))


def _rain_rate(array: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    raw = array[list(rows)].astype(np.float32)
    return np.where(raw < 0, np.float32(np.nan), raw * np.float32(0.01 * 60 / MINUTES))


def read_dates(path: Path, name: str) -> np.ndarray:
    """Return an array of pickled `datetime` objects of an npz file as datetime64[s], without unpickling.

    Raises
    ------
    UserError
        If the array is not there, is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("not version 1.0 of the npy format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            instructions = stream.read()
        if not dtype.hasobject or len(shape) != 1:
            raise ValueError(f"found {dtype} {shape}")
        dates = [
            _date(payload)
            for _, argument, _ in pickletools.genops(instructions)
            if len(payload := _payload(argument)) == _DATE_BYTES
        ]
    except KeyError:
        raise UserError(f"{path} holds no array {name!r}") from None
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{path}: {name} is not a list of pickled dates, or is damaged: {error}") from error
    if len(dates) != shape[0]:
        raise UserError(f"{path}: {name} holds {shape[0]} objects, {len(dates)} of them plain dates")
    return np.array(dates, dtype="M8[s]")


def _payload(argument: object) -> bytes:
    """Return what an instruction carries as bytes; pickles of Python 2 and of protocol 2 have texts."""
    if isinstance(argument, bytes):
        return argument
    return argument.encode("latin-1", "ignore") if isinstance(argument, str) else b""


def _date(payload: bytes) -> datetime:
    century, year, month, day, hour, minute, second = payload[:7]
    return datetime(century * 256 + year, month, day, hour, minute, second)
