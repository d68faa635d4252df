"""Arrays of npz files: read from disk as they are needed, and never unpickled."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mim3d.data.files import existing
from mim3d.errors import UserError


def names(path: str | Path) -> list[str]:
    """Return the names of the arrays in an npz file.

    Raises
    ------
    UserError
        If the file is not there, is cut short, or is no npz file.
    """
    path = existing(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path} is not an npz file, or is cut short: {error}") from error


def read_array(path: str | Path, name: str) -> np.ndarray:
    """Return one array of an npz file: from disk as needed where it is not compressed, else in memory.

    Parameters
    ----------
    path
        The npz file. It is never unpickled.
    name
        Which array.

    Raises
    ------
    UserError
        If the file or the array is not there, is damaged, or holds Python objects.
    """
    path = existing(path)
    try:
        return _read(path, name)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path} is not an npz file, or is cut short: {error}") from error


def _read(path: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        try:
            entry = archive.getinfo(f"{name}.npy")
        except KeyError:
            there = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist()[:8])
            raise UserError(f"{path} holds no array {name!r}; there are: {there or 'none'}") from None
        with archive.open(entry) as stream:
            try:
                version = np.lib.format.read_magic(stream)
                readers = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }
                shape, fortran, dtype = readers[version](stream)
            except (ValueError, KeyError) as error:
                raise UserError(f"{path}: {name} is not a plain array ({error})") from error
            if dtype.hasobject:
                raise UserError(f"{path}: {name} holds Python objects, which are not read from files")
            header_length = stream.tell()
            if entry.compress_type != zipfile.ZIP_STORED:
                return _decompress(stream, shape, dtype, fortran, f"{path}: {name}")
    size = dtype.itemsize * int(np.prod(shape))
    if entry.file_size != header_length + size:
        raise UserError(f"{path}: {name} says its shape is {shape}, but has {entry.file_size} bytes")
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        # A zip entry begins with 30 bytes whose last four are the lengths of its name and of its extra field.
        name_length, extra_length = struct.unpack("<HH", file.read(30)[26:])
    if size == 0:
        return np.empty(shape, dtype)
    offset = entry.header_offset + 30 + name_length + extra_length + header_length
    return np.memmap(path, dtype, "r", offset, shape, order="F" if fortran else "C")


def _decompress(stream: Any, shape: Any, dtype: Any, fortran: bool, where: str) -> np.ndarray:
    data = stream.read()
    if len(data) != dtype.itemsize * int(np.prod(shape)):
        raise UserError(f"{where} says its shape is {shape}, but has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
