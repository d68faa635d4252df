"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from astropy import units as u

from mim3d.errors import UserError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder that becomes `path` when the block ends well.

    Whoever looks at `path` sees the old file or the whole new one, also when the writer is killed. After an
    exception the temporary file is removed and `path` is as it was.

    Parameters
    ----------
    path
        The file to write; its folder is made if it is not there.

    Raises
    ------
    UserError
        If the folder cannot be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files for their owner alone; results are to be as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def existing(path: str | Path) -> Path:
    """Return `path` as a `Path`, having checked that a file is there.

    Raises
    ------
    UserError
        If there is none, or it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a file is needed")
    if not path.is_file():
        raise UserError(f"no file {path}")
    return path


def as_unit(value: u.UnitBase | str, name: str) -> u.UnitBase:
    """Return a unit that was given as such or by its name.

    Parameters
    ----------
    value
        For instance `"Msun / pc3"`.
    name
        What it is the unit of, for the error.

    Raises
    ------
    UserError
        If it is not a unit.
    """
    try:
        unit: Any = u.Unit(value)  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError) as error:
        raise UserError(f"{value!r}, given as the unit of {name}, is not a unit: {error}") from error
    return unit
