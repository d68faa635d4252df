"""Reader of TensorFlow's checkpoint format ("tensor bundle") that needs no TensorFlow.

A bundle is `PREFIX.index` and `PREFIX.data-00000-of-0000N`. The index is a LevelDB table whose keys are the
names of the variables and whose values are small protocol buffers (`BundleEntryProto`) that say type, shape
and place in the data files. Both formats are public: LevelDB's `doc/table_format.md` and TensorFlow's
`tensor_bundle.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mim3d.compat.crc32c import masked_crc32c
from mim3d.errors import UserError

_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
_TRAILER_SIZE = 5
# TensorFlow's DataType numbers.
_TYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    19: np.dtype("<f2"),
}


@dataclass(frozen=True)
class Entry:
    """Where a variable's values are, and what they are."""

    type_number: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_sliced: bool


def read_bundle(
    prefix: str | Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray]:
    """Read variables of a TensorFlow checkpoint.

    Parameters
    ----------
    prefix
        Path without `.index`, as TensorFlow calls it (`model.ckpt-7`); with it is fine too.
    wanted
        Tells by its name whether a variable is read.

    Returns
    -------
    dict of str to numpy.ndarray
        Arrays by name.

    Raises
    ------
    UserError
        If a file is missing, damaged, or uses a feature of the format that is not read here.
    """
    prefix = str(prefix).removesuffix(".index")
    index = Path(f"{prefix}.index")
    if not index.is_file():
        raise UserError(f"no TensorFlow checkpoint at {prefix}: there is no file {index}")
    num_shards, entries = _read_index(index)
    variables: dict[str, np.ndarray] = {}
    for name, entry in entries.items():
        if wanted(name):
            shard = Path(f"{prefix}.data-{entry.shard:05d}-of-{num_shards:05d}")
            variables[name] = _read_values(shard, name, entry)
    return variables


def list_bundle(prefix: str | Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all variables of a TensorFlow checkpoint."""
    prefix = str(prefix).removesuffix(".index")
    return {name: entry.shape for name, entry in _read_index(Path(f"{prefix}.index"))[1].items()}


def _read_values(shard: Path, name: str, entry: Entry) -> np.ndarray:
    if entry.is_sliced:
        raise UserError(f"{shard}: variable {name!r} is stored in slices, which cannot be read")
    if entry.type_number not in _TYPES:
        raise UserError(
            f"{shard}: variable {name!r} has TensorFlow type {entry.type_number}, which cannot be read"
        )
    if not shard.is_file():
        raise UserError(f"the checkpoint's file {shard} is missing")
    with shard.open("rb") as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    dtype = _TYPES[entry.type_number]
    expected = dtype.itemsize * int(np.prod(entry.shape, dtype=np.int64))
    if len(data) != entry.size or entry.size != expected:
        raise UserError(f"{shard} is truncated: variable {name!r} needs {expected} bytes, found {len(data)}")
    if masked_crc32c(data) != entry.checksum:
        raise UserError(f"{shard} is damaged: the checksum of variable {name!r} is wrong")
    return np.frombuffer(data, dtype).reshape(entry.shape).copy()


def _read_index(path: Path) -> tuple[int, dict[str, Entry]]:
    """Read a bundle's index: the number of data files, and the entries by name."""
    data = path.read_bytes()
    if len(data) < _FOOTER_SIZE or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise UserError(f"{path} is not the index of a TensorFlow checkpoint, or is truncated")
    try:
        footer = data[-_FOOTER_SIZE:]
        _, position = _block_handle(footer, 0)
        index_handle, _ = _block_handle(footer, position)
        num_shards = 1
        entries: dict[str, Entry] = {}
        for _, handle in _block_entries(_block(data, index_handle, path)):
            for key, value in _block_entries(_block(data, _block_handle(handle, 0)[0], path)):
                if key:
                    entries[key.decode()] = _entry(value)
                else:
                    num_shards = _shard_count(value, path)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    return num_shards, entries


def _block(data: bytes, handle: tuple[int, int], path: Path) -> bytes:
    """Cut out a block of the table and check it."""
    offset, size = handle
    end = offset + size
    if end + _TRAILER_SIZE > len(data):
        raise UserError(f"{path} is truncated: a block ends at byte {end}, the file at {len(data)}")
    kind, checksum = struct.unpack("<BI", data[end : end + _TRAILER_SIZE])
    if masked_crc32c(data[offset : end + 1]) != checksum:
        raise UserError(f"{path} is damaged: the checksum of the block at byte {offset} is wrong")
    if kind != 0:
        raise UserError(
            f"{path} is compressed (only TensorFlow 1.1 does that), which cannot be read: load it in "
            "any later TensorFlow and save it again"
        )
    return data[offset:end]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; each key repeats only what differs from the key before it."""
    (num_restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * num_restarts
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _block_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _shard_count(header: bytes, path: Path) -> int:
    """Read `BundleHeaderProto`."""
    fields = dict(_fields(header))
    if fields.get(2, 0) != 0:
        raise UserError(f"{path} was written on a big-endian machine, which cannot be read")
    return _integer(fields.get(1, 1))


def _entry(message: bytes) -> Entry:
    """Read `BundleEntryProto`."""
    fields: dict[int, int | bytes] = {}
    is_sliced = False
    for number, value in _fields(message):
        fields[number] = value
        is_sliced |= number == 7
    shape = tuple(
        _integer(dict(_fields(_bytes(dim))).get(1, 0))
        for number, dim in _fields(_bytes(fields.get(2, b"")))
        if number == 2
    )
    type_number, shard, offset, size, checksum = (
        _integer(fields.get(number, 0)) for number in (1, 3, 4, 5, 6)
    )
    return Entry(type_number, shape, shard, offset, size, checksum, is_sliced)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a protocol buffer: number and value."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _varint(message, position)
        elif wire_type == 1:
            (value,) = struct.unpack_from("<Q", message, position)
            position += 8
        elif wire_type == 2:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        elif wire_type == 5:
            (value,) = struct.unpack_from("<I", message, position)
            position += 4
        else:
            raise IndexError(f"a protocol buffer has wire type {wire_type}")
        yield number, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an integer of variable length; return it and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise IndexError("a protocol buffer has bytes where a number belongs")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise IndexError("a protocol buffer has a number where bytes belong")
    return value
