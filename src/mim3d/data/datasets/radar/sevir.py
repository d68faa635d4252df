"""SEVIR: storm events of four hours over the United States, as vertically integrated liquid (VIL).

References
----------
Veillette, Samsi & Mattioli 2020, NeurIPS: SEVIR, a storm event imagery dataset.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mim3d.data.datasets.radar import hdf5
from mim3d.data.datasets.radar.frames import RadarFrames
from mim3d.errors import UserError

CATALOG = "CATALOG.csv"
MISSING = 255
"""Level of pixels that were not measured."""


def open_events(path: Path) -> list[RadarFrames]:
    """Open a file: `vil` `(N, height, width, T)` uint8 and `id` `(N,)`, an event after the other.

    When the frames are of stands in `CATALOG.csv` alone, which is looked for in the file's folder and in the
    three above it: SEVIR's own layout.

    Raises
    ------
    UserError
        If the file is damaged or laid out otherwise, or the catalogue is missing, damaged or lacks an event.
    """
    with hdf5.opened(path) as file:
        shape = hdf5.dataset(file, "vil", num_axes=4).shape
        dtype = hdf5.dataset(file, "vil", num_axes=4).dtype
        ids: Any = file.get("id")
        if dtype != np.uint8 or ids is None or ids.shape != shape[:1]:
            raise UserError(
                f"{path}: vil must be uint8 (N, height, width, T) and id name its {shape[0]} events"
            )
        names = [
            name.decode("ascii", "replace") if isinstance(name, bytes) else str(name) for name in ids[()]
        ]
    times = _times(path)
    events = []
    for row, name in enumerate(names):
        own = times.get(row)
        if own is None or len(own) != shape[3]:
            raise UserError(
                f"{path}: {CATALOG} gives event {row} ({name}) {0 if own is None else len(own)} times, "
                f"it has {shape[3]} frames"
            )
        read = partial(_read, path, row)
        events.append(RadarFrames(path, "vil", own, (shape[1], shape[2]), read, place=name))
    return events


def _read(path: Path, event: int, rows: Sequence[int]) -> np.ndarray:
    first, last = min(rows), max(rows)
    with hdf5.opened(path) as file:
        raw = hdf5.dataset(file, "vil", num_axes=4)[event, :, :, first : last + 1]
    raw = np.moveaxis(raw, -1, 0)[np.asarray(rows) - first]
    return np.where(raw == MISSING, np.float32(np.nan), raw.astype(np.float32))


def _times(path: Path) -> dict[int, np.ndarray]:
    """Return when the frames of every event of a file are of, by the event's row."""
    for folder in path.resolve().parents[:4]:
        if (folder / CATALOG).is_file():
            catalog = folder / CATALOG
            return _read_catalog(catalog, catalog.stat().st_mtime_ns).get(path.name, {})
    raise UserError(f"{path} does not say when its events were; put SEVIR's {CATALOG} into its folder")


@lru_cache(maxsize=1)
def _read_catalog(path: Path, changed: int) -> dict[str, dict[int, np.ndarray]]:
    """Return times by file name and row; kept, since every file asks for the same large catalogue."""
    times: dict[str, dict[int, np.ndarray]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                if line["img_type"] != "vil":
                    continue
                minutes = np.array([int(float(minute)) for minute in line["minute_offsets"].split(":")])
                own = np.datetime64(line["time_utc"].replace(" ", "T"), "s") + minutes.astype("m8[m]")
                times.setdefault(Path(line["file_name"]).name, {})[int(line["file_index"])] = own
    except (OSError, UnicodeDecodeError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not SEVIR's catalogue, or is damaged: {error}") from error
    return times
