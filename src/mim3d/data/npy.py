"""Arrays of npy files, plain or compressed with gzip: never unpickled, and plain ones left on disk."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np

from mim3d.data.files import existing
from mim3d.errors import UserError


def read(path: str | Path) -> np.ndarray:
    """Return the array of an npy file.

    Parameters
    ----------
    path
        The file. Plain files are read from disk as they are indexed; those whose name ends in `.gz` are
        decompressed into memory.

    Raises
    ------
    UserError
        If the file is not there, is none of this format, is cut short or holds Python objects.
    """
    path = existing(path)
    try:
        # Not np.load: it takes whatever begins as a zip file for an npz.
        if path.suffix == ".gz":
            stream = io.BytesIO(gzip.decompress(path.read_bytes()))
            return np.lib.format.read_array(stream, allow_pickle=False)
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} is not an npy file, is cut short, or is pickled: {error}") from error
