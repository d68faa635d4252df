"""Multi-Radar/Multi-Sensor (MRMS) mosaics of NOAA in GRIB2, plain or compressed with gzip.

Needs the extra `radar` (ecCodes).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mim3d.data.datasets.radar.frames import NO_ECHO, Quantity, RadarFrames
from mim3d.data.files import existing
from mim3d.errors import UserError

PRODUCTS: dict[tuple[int, int], Quantity] = {
    (6, 1): "rain_rate",
    (8, 8): "reflectivity",
    (10, 0): "reflectivity",
    (10, 2): "reflectivity",
    (11, 0): "reflectivity",
    (11, 1): "reflectivity",
    (11, 2): "reflectivity",
}
"""Category and number of the parameters (of discipline 209) that are read.

PrecipRate, SeamlessHSR, MergedReflectivityQCComposite, LowLevelCompositeReflectivity,
MergedBaseReflectivityQC, MergedReflectivityComposite, MergedReflectivityQComposite.
"""


def open_frames(path: Path) -> RadarFrames:
    """Open a file, such as `MRMS_PrecipRate_00.00_20190610-000000.grib2.gz`: one frame.

    Rain rates below 0 are pixels that were not measured (-1) or that no radar reaches (-3). Reflectivity of
    -999 dBZ is a pixel that no radar reaches, of -99 one without echo.

    Raises
    ------
    UserError
        If ecCodes is not installed, or the file is damaged, holds more than one message, or is of another
        product.
    """
    with _Message(path) as message:
        parameter = (message["parameterCategory"], message["parameterNumber"])
        if message["discipline"] != 209 or parameter not in PRODUCTS:
            raise UserError(
                f"{path} holds parameter {message['discipline']}-{parameter[0]}-{parameter[1]}; MRMS "
                "PrecipRate and composite reflectivities (209-6-1, 209-10-0, ...) are read"
            )
        if message["gridType"] != "regular_ll":
            raise UserError(f"{path} is on a grid {message['gridType']!r}; regular_ll is read")
        time = np.datetime64(
            "{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}".format(
                **{name: message[name] for name in ("year", "month", "day", "hour", "minute", "second")}
            ),
            "s",
        )
        grid = (message["Nj"], message["Ni"])
    quantity = PRODUCTS[parameter]
    return RadarFrames(path, quantity, np.array([time]), grid, partial(_read, path, quantity))


def _read(path: Path, quantity: Quantity, rows: Sequence[int]) -> np.ndarray:
    with _Message(path) as message:
        raw = message.values().reshape(message["Nj"], message["Ni"])
        if message["jScansPositively"]:
            raw = raw[::-1]
        outside = raw == message["missingValue"]
    values = raw.astype(np.float32)
    if quantity == "rain_rate":
        values[raw < 0] = np.nan
    else:
        values[raw <= -99] = NO_ECHO
        values[raw <= -999] = np.nan
    values[outside] = np.nan
    return np.stack([values] * len(rows))


class _Message:
    """The one GRIB message of a file; a context that frees it."""

    def __init__(self, path: Path) -> None:
        try:
            import eccodes  # pyright: ignore[reportMissingImports]
        except (ImportError, RuntimeError) as error:
            # The binding raises RuntimeError where the C library is missing.
            raise UserError(
                f"{path} is GRIB2, which needs ecCodes: pip install 'mim3d[radar]' ({error})"
            ) from error
        self.path = existing(path)
        self._eccodes: Any = eccodes
        data = self._bytes()
        # Bytes 8 to 15 of a message say its length; it ends with 7777.
        if data[:4] != b"GRIB" or data[7:8] != b"\x02":
            raise UserError(f"{path} is not GRIB2")
        length = int.from_bytes(data[8:16], "big")
        if len(data) < length or data[length - 4 : length] != b"7777":
            raise UserError(f"{path} is cut short or damaged: {len(data)} bytes of {length}")
        if len(data) > length:
            raise UserError(f"{path} holds more than one GRIB message; files of MRMS hold one")
        try:
            self.handle = eccodes.codes_new_from_message(data)
        except eccodes.CodesInternalError as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def _bytes(self) -> bytes:
        data = self.path.read_bytes()
        if not data.startswith(b"\x1f\x8b"):
            return data
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{self.path} is cut short or damaged: {error}") from error

    def __enter__(self) -> _Message:
        return self

    def __exit__(self, *exception: object) -> None:
        self._eccodes.codes_release(self.handle)

    def __getitem__(self, key: str) -> Any:
        try:
            return self._eccodes.codes_get(self.handle, key)
        except self._eccodes.CodesInternalError as error:
            raise UserError(f"{self.path} has no {key!r}: {error}") from error

    def values(self) -> np.ndarray:
        try:
            return self._eccodes.codes_get_values(self.handle)
        except self._eccodes.CodesInternalError as error:
            raise UserError(f"{self.path} is damaged: {error}") from error
