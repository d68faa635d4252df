"""Frames of one's own in an npz file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mim3d.data import npz
from mim3d.data.datasets.radar.frames import Quantity, RadarFrames
from mim3d.errors import UserError

QUANTITIES: tuple[Quantity, ...] = ("reflectivity", "rain_rate")


def open_frames(path: Path) -> RadarFrames:
    """Open a file of `reflectivity` [dBZ] or `rain_rate` [mm/h], `(T, height, width)`, and `times` `(T,)`.

    `times` are datetime64 or ISO 8601 texts, UTC. `gain`, `offset` and `missing`, where given, are numbers:
    the physical value is gain x + offset, and pixels that are `missing` before that were not measured; NaN
    never was. Rain rates below 0 are an error.

    Raises
    ------
    UserError
        If the file is damaged or laid out otherwise.
    """
    names = npz.names(path)
    found: list[Quantity] = [name for name in QUANTITIES if name in names]
    if len(found) != 1:
        raise UserError(f"{path} must hold one of the arrays {' and '.join(QUANTITIES)}, and times")
    array = npz.read_array(path, found[0])
    if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise UserError(
            f"{path}: {found[0]} must be numbers (T, height, width), found {array.dtype} {array.shape}"
        )
    times = _times(path)
    if times.shape != array.shape[:1]:
        raise UserError(f"{path} holds {len(array)} frames, times has the shape {times.shape}")
    gain, offset = (_number(path, name, names, default) for name, default in (("gain", 1.0), ("offset", 0.0)))
    missing = _number(path, "missing", names, np.nan)
    read = partial(_read, path, array, found[0], gain, offset, missing)
    return RadarFrames(path, found[0], times, (array.shape[1], array.shape[2]), read)


def _read(
    path: Path,
    array: np.ndarray,
    quantity: Quantity,
    gain: float,
    offset: float,
    missing: float,
    rows: Sequence[int],
) -> np.ndarray:
    raw = np.asarray(array[list(rows)])
    values = (gain * raw.astype(np.float64) + offset).astype(np.float32)
    values[raw == missing] = np.nan
    if quantity == "rain_rate" and (values < 0).any():
        raise UserError(
            f"{path}: rain_rate must be >= 0, or NaN or 'missing' where not measured, "
            f"found {np.nanmin(values):.4g}"
        )
    return values


def _times(path: Path) -> np.ndarray:
    times = npz.read_array(path, "times")
    if times.dtype.kind in "MUS":
        try:
            return times.astype("M8[s]")
        except ValueError as error:
            raise UserError(f"{path}: times must be such as 2019-06-10T00:02:00: {error}") from error
    raise UserError(
        f"{path}: times must be datetime64 or texts such as 2019-06-10T00:02:00, found {times.dtype}"
    )


def _number(path: Path, name: str, names: list[str], default: float) -> float:
    if name not in names:
        return default
    value = npz.read_array(path, name)
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} must be a number, found {value.dtype} {value.shape}")
    return float(value.reshape(-1)[0])
