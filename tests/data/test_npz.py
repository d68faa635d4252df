"""Arrays of npz and npy files, and what is not read from them."""

import gzip

import numpy as np
import pytest

from mim3d.data import npy, npz
from mim3d.errors import UserError


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_single_arrays_of_an_npz(tmp_path, save):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(3, 2)),
    }
    save(tmp_path / "x.npz", **arrays)
    assert sorted(npz.names(tmp_path / "x.npz")) == ["a", "b"]
    for name, array in arrays.items():
        found = npz.read_array(tmp_path / "x.npz", name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        assert isinstance(found, np.memmap) == (save is np.savez)


def test_npy_stays_on_disk_and_may_be_compressed(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)
    assert isinstance(npy.read(tmp_path / "x.npy"), np.memmap)
    (tmp_path / "x.npy.gz").write_bytes(gzip.compress((tmp_path / "x.npy").read_bytes()))
    for name in ("x.npy", "x.npy.gz"):
        np.testing.assert_array_equal(npy.read(tmp_path / name), array)


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95 pickle", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_what_is_neither(tmp_path, content):
    for name in ("x.npy", "x.npy.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="not an npy file"):
            npy.read(tmp_path / name)
    (tmp_path / "x.npz").write_bytes(content)
    for read in (npz.names, lambda path: npz.read_array(path, "a")):
        with pytest.raises(UserError, match="not an npz file, or is cut short"):
            read(tmp_path / "x.npz")


def test_objects_and_unknown_names(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match="pickled"):
        npy.read(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", a=np.array([{}]))
    with pytest.raises(UserError, match="Python objects"):
        npz.read_array(tmp_path / "x.npz", "a")
    with pytest.raises(UserError, match="no array 'b'; there are: a"):
        npz.read_array(tmp_path / "x.npz", "b")
