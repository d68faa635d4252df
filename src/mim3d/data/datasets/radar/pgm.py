"""Composites of the Finnish Meteorological Institute (FMI): PGM images, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mim3d.data.datasets.radar.frames import RadarFrames
from mim3d.data.files import existing
from mim3d.errors import UserError

_LONGEST_HEADER = 1 << 16
_TOKEN = re.compile(rb"\s*(?:#([^\n]*)\n|(\d+))")


class _Header(NamedTuple):
    width: int
    height: int
    highest: int
    comments: dict[str, str]
    length: int
    """Bytes before the first pixel."""


def open_frames(path: Path) -> RadarFrames:
    """Open a file: one frame, of the time that its comment `obstime` says.

    Reflectivity is (v - 64) / 2 dBZ; the highest value (255), or that of a comment `missingval`, is a pixel
    that was not measured.

    Raises
    ------
    UserError
        If the file is no binary PGM, does not say its time, or is of another quantity.
    """
    header = _header(_bytes(path, _LONGEST_HEADER), path)
    if "param" not in header.comments or "obstime" not in header.comments:
        raise UserError(f"{path} is no image of FMI: its comments must say 'param' and 'obstime'")
    if header.comments["param"] != "CorrectedReflectivity":
        raise UserError(f"{path} holds {header.comments['param']!r}; CorrectedReflectivity is read")
    stamp = header.comments["obstime"]
    try:
        time = np.datetime64(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}:{stamp[10:12]}", "s")
    except ValueError as error:
        raise UserError(f"{path}: obstime is {stamp!r}, not YYYYMMDDHHMM") from error
    return RadarFrames(
        path, "reflectivity", np.array([time]), (header.height, header.width), partial(_read, path)
    )


def _read(path: Path, rows: Sequence[int]) -> np.ndarray:
    data = _bytes(path)
    header = _header(data, path)
    # Pixels of more than 8 bits have two bytes, the more significant one first.
    dtype = np.dtype(np.uint8 if header.highest < 256 else ">u2")
    count = header.width * header.height
    if len(data) - header.length != count * dtype.itemsize:
        raise UserError(
            f"{path} has {len(data) - header.length} bytes of pixels, "
            f"{header.height} x {header.width} of them need {count * dtype.itemsize}"
        )
    raw = np.frombuffer(data, dtype, count, header.length).reshape(header.height, header.width)
    values = (raw.astype(np.float32) - 64) / 2
    values[raw == int(header.comments.get("missingval", header.highest))] = np.nan
    return np.stack([values] * len(rows))


def _bytes(path: Path, most: int = -1) -> bytes:
    path = existing(path)
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else path.open("rb") as file:
            return file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is cut short or damaged: {error}") from error


def _header(data: bytes, path: Path) -> _Header:
    comments, numbers, place = {}, [], 2
    while len(numbers) < 3:
        match = _TOKEN.match(data, place)
        if not data.startswith(b"P5") or match is None:
            raise UserError(f"{path} is no binary PGM image (P5), or is cut short")
        place = match.end()
        if match[2] is not None:
            numbers.append(int(match[2]))
        else:
            key, _, value = match[1].decode("latin-1").strip().partition(" ")
            comments[key] = value.strip()
    width, height, highest = numbers
    if not (width and height and 0 < highest < 1 << 16):
        raise UserError(f"{path} says that it is {height} x {width} pixels up to {highest}")
    return _Header(width, height, highest, comments, place + 1)
