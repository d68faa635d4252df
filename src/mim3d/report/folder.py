"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mim3d.errors import UserError


@contextmanager
def result_folder(target: str | Path, record: str) -> Iterator[Path]:
    """Give an empty folder to write into, which becomes `target` when the block ends well.

    A folder of earlier results is brought up to date: its files of the same names are replaced, its results
    that are no longer made are removed. Whatever else the user put there stays. A folder that holds anything
    but no earlier results is refused. After an exception everything is as it was.

    Parameters
    ----------
    target
        The folder to write.
    record
        Name of the JSON file that tells earlier results from other people's files; the block writes it, with
        the names of the results under `files`.

    Raises
    ------
    UserError
        If the target cannot be written, or is not a folder of such results.
    """
    target = Path(target)
    before = _earlier_results(target, record)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise UserError(f"cannot write to {target}: {error.strerror or error}") from error
    try:
        yield temporary
        try:
            _move(temporary, target, record, before)
        except OSError as error:
            raise UserError(f"cannot write to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_result_folder(target: str | Path, record: str) -> None:
    """Refuse, before any work is done, a folder that `result_folder` could not write."""
    target = Path(target)
    _earlier_results(target, record)
    nearest = target
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {target}: no permission to write in {nearest}")


def _earlier_results(target: Path, record: str) -> list[str]:
    """Names of the results in an existing folder; none if it is empty or not there."""
    if not os.path.lexists(target):
        return []
    if not target.is_dir():
        raise UserError(f"{target} is a file; --output needs a folder")
    try:
        if not any(target.iterdir()):
            return []
        files = json.loads((target / record).read_text(encoding="utf-8"))["files"]
        names = [str(name) for name in files]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, PermissionError):
            raise UserError(f"cannot read {target}: {error.strerror}") from error
        raise UserError(
            f"the folder {target} holds other files and no results of this command ({record}); "
            "choose another --output"
        ) from None
    # Only what lies in the folder itself can be ours.
    return [name for name in names if name == Path(name).name]


def _move(temporary: Path, target: Path, record: str, before: list[str]) -> None:
    # mkdtemp makes folders for their owner alone; results are to be as readable as any other.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o777 & ~umask)
    if not target.is_dir() or not any(target.iterdir()):
        # Renaming onto an empty folder is one step, too.
        os.replace(temporary, target)
        return
    made = sorted(path.name for path in temporary.iterdir())
    for name in made:
        if name != record:
            os.replace(temporary / name, target / name)
    for name in set(before) - set(made):
        (target / name).unlink(missing_ok=True)
    os.replace(temporary / record, target / record)
