"""IDX files, the format of MNIST and Fashion-MNIST, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from mim3d.data.files import existing
from mim3d.errors import UserError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"


def read(path: str | Path) -> np.ndarray:
    """Read the array of an IDX file.

    The file begins with two zero bytes, a byte for the type of the numbers and one for the number of axes;
    then come the sizes of the axes and the numbers, all big-endian.

    Parameters
    ----------
    path
        The file. Whether it is compressed follows from its content.

    Returns
    -------
    np.ndarray
        Of the file's shape; images are `(N, height, width)` uint8.

    Raises
    ------
    UserError
        If the file is not there, is none of this format, or has too few or too many bytes.
    """
    path = existing(path)
    data = path.read_bytes()
    if data[:2] == _GZIP:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} is damaged or cut short: {error}") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise UserError(
            f"{path} is not an IDX file: it begins with {data[:4].hex(' ') or 'nothing'}, "
            "images begin with 00 00 08 03"
        )
    dtype, num_axes = np.dtype(_TYPES[data[2]]), data[3]
    start = 4 + 4 * num_axes
    if len(data) < start:
        raise UserError(f"{path} is cut short within its header")
    shape = tuple(np.frombuffer(data, ">u4", num_axes, 4).tolist())
    expected = math.prod(shape) * dtype.itemsize
    if len(data) - start != expected:
        raise UserError(
            f"{path} says its shape is {shape}, which is {expected} bytes, but has {len(data) - start}; "
            "copy it again"
        )
    array = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def write(path: str | Path, array: np.ndarray) -> None:
    """Write an array as IDX; compressed where the name ends in `.gz`.

    Raises
    ------
    UserError
        If the format has no such numbers.
    """
    from mim3d.data.files import replacing

    array = np.asarray(array)
    codes = {np.dtype(name).newbyteorder("="): code for code, name in _TYPES.items()}
    if array.dtype not in codes:
        raise UserError(f"IDX files hold no numbers of type {array.dtype}")
    code = codes[array.dtype]
    data = bytes((0, 0, code, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    data += array.astype(_TYPES[code]).tobytes()
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)
