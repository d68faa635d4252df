"""HDF5 files of radars: opened with errors that say what is wrong, attributes by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mim3d.data.files import existing
from mim3d.errors import UserError


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """Open a file to read.

    Raises
    ------
    UserError
        If it is not there, is no HDF5, is cut short or damaged, also when that shows within the block.
    """
    path = existing(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} is not HDF5, is cut short, or is damaged: {error}") from error


def attribute(file: h5py.File, group: str, name: str) -> Any:
    """Return an attribute as a text or a number.

    Raises
    ------
    UserError
        If the group or the attribute is not there, or is a list.
    """
    there: Any = file.get(group)
    if there is None or name not in there.attrs:
        raise UserError(f"{file.filename} has no attribute {name!r} of {group!r}")
    value = np.asarray(there.attrs[name])
    if value.size != 1:
        raise UserError(f"{file.filename}: {name!r} of {group!r} must be one value, found {value.size}")
    value = value.reshape(-1)[0]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def number(file: h5py.File, group: str, name: str) -> float:
    """Return an attribute as a number.

    Raises
    ------
    UserError
        If it is not there or no number.
    """
    value = attribute(file, group, name)
    try:
        return float(value)
    except ValueError as error:
        raise UserError(f"{file.filename}: {name!r} of {group!r} is {value!r}, not a number") from error


def dataset(file: h5py.File, name: str, num_axes: int = 2) -> h5py.Dataset:
    """Return a data set of numbers.

    Raises
    ------
    UserError
        If it is not there, or not an array of numbers with that many axes.
    """
    found: Any = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{file.filename} holds no data set {name!r}")
    if found.ndim != num_axes or found.dtype.kind not in "fiu" or 0 in found.shape:
        raise UserError(
            f"{file.filename}: {name} must be numbers along {num_axes} axes, "
            f"found {found.dtype} {found.shape}"
        )
    return found
