"""IDX files, whole and broken."""

import gzip
import struct

import numpy as np
import pytest

from mim3d.data.datasets import idx
from mim3d.errors import UserError


def test_files_as_published_open_plain_and_compressed(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    data = struct.pack(">4B3I", 0, 0, 8, 3, 5, 28, 28) + images.tobytes()
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "compressed").write_bytes(gzip.compress(data))
    for name in ("plain", "compressed"):
        found = idx.read(tmp_path / name)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("name", ["array-idx2", "array-idx2.gz"])
def test_what_is_written_is_read_back(tmp_path, dtype, name):
    array = np.arange(-6, 6).astype(dtype).reshape(3, 4)
    idx.write(tmp_path / name, array)
    found = idx.read(tmp_path / name)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


WHOLE = struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 3) + bytes(18)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG....", "not an IDX file: it begins with 89 50 4e 47"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file"),
        (WHOLE[:10], "cut short within its header"),
        (WHOLE[:-1], r"says its shape is \(2, 3, 3\), which is 18 bytes, but has 17"),
        (WHOLE + b"x", "but has 19"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "says its shape is"),
        (gzip.compress(WHOLE)[:-9], "damaged or cut short"),
        (gzip.compress(WHOLE)[:12] + b"\xff" * 30, "damaged or cut short"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path, data, message):
    path = tmp_path / "broken-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message):
        idx.read(path)


def test_missing_file_and_unknown_numbers(tmp_path):
    with pytest.raises(UserError, match="no file"):
        idx.read(tmp_path / "none")
    with pytest.raises(UserError, match="complex128"):
        idx.write(tmp_path / "c", np.zeros(2, complex))
