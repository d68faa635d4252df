"""Public files from where they are published: resumed after a cut, checked, and whole or not there."""

from __future__ import annotations

import hashlib
import http
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mim3d.errors import UserError

_BLOCK = 1 << 20
_TRIES = 5
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class PublicFile:
    """A file that anybody may fetch.

    Parameters
    ----------
    url
        Where it is published.
    md5
        Checksum, as published: it finds damage, it is no proof against forgery.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The name to keep it under."""
        return Path(urllib.parse.urlsplit(self.url).path).name


def fetch(
    file: PublicFile, folder: str | Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Download a file, or go on where an earlier download was cut.

    What has come lies in `NAME.part` until all of it is there and its checksum is right. A file that is there
    already, with the right checksum, is kept.

    Parameters
    ----------
    file
        Which.
    folder
        Where to; made if it is not there.
    progress
        Called with the numbers of bytes that are here and of all.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UserError
        If the server cannot be reached, breaks off again and again, or has another file by now.
    """
    folder = Path(folder)
    path, part = folder / file.name, folder / f"{file.name}.part"
    if path.is_file():
        if _is(path, file):
            return path
        raise UserError(f"{path} is there but is not the published file; move it away to download that")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        here = part.stat().st_size if part.is_file() else 0
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    failures, whole = 0, False
    while not whole:
        before = here
        try:
            whole = _receive(file, part, here, progress)
            reason = "the server broke off"
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise UserError(f"{file.url}: the server says {error.code} {error.reason}") from error
            # There is nothing behind what is here: all had come.
            break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        here = part.stat().st_size if part.is_file() else 0
        failures = 0 if here > before else failures + 1
        if failures == _TRIES:
            host = urllib.parse.urlsplit(file.url).netloc
            raise UserError(
                f"cannot download {file.name} from {host} ({reason}): is the machine offline? "
                f"{here} bytes are in {folder} and the same command goes on from there; or put it there, "
                f"from {file.url}"
            )
    if not _is(part, file):
        part.unlink()
        raise UserError(f"{file.url} is not the file it should be (its checksum is another); it was removed")
    os.replace(part, path)
    return path


def _receive(file: PublicFile, part: Path, here: int, progress: Callable[[int, int], None]) -> bool:
    """Append what is missing, as far as the connection holds; tell whether that was all."""
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={here}-"} if here else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
        # A server that cannot send a part sends the whole.
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = here if goes_on else 0
        size = done + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if goes_on else "wb") as output:
            while block := answer.read1(_BLOCK):
                output.write(block)
                done += len(block)
                progress(done, max(size, done))
    return done >= size


def _is(path: Path, file: PublicFile) -> bool:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == file.md5
