"""What a file is follows from what is in it."""

import h5py
import numpy as np
import pytest
from astropy import units as u

from mim3d import data
from mim3d.data import original, well
from mim3d.errors import UserError


@pytest.fixture
def snapshot(tmp_path):
    path = tmp_path / "snapshot.h5"
    with h5py.File(path, "w") as file:
        file.create_group("Header").attrs["NumPart_ThisFile"] = [1, 0, 0, 0, 0, 0]
        file["PartType0/Coordinates"] = np.zeros((1, 3))
    return path


def test_kinds_are_told_by_content_not_by_name(tmp_path, run, snapshot):
    well.write(tmp_path / "grid.npz", run)
    original.write(tmp_path / "samples.h5", [np.zeros((2, 1, 4, 4))], 1)
    assert data.kind(tmp_path / "grid.npz") == "well"
    assert data.kind(tmp_path / "samples.h5") == "original"
    assert data.kind(snapshot) == "snapshot"


def test_either_kind_on_a_grid_is_read(tmp_path, run):
    well.write(tmp_path / "run.h5", run)
    found = data.read(tmp_path / "run.h5", fields=["velocity"])
    assert list(found.fields) == ["velocity"]
    np.testing.assert_array_equal(found.fields["velocity"], run.fields["velocity"])
    frames = np.random.default_rng(0).random((3, 1, 4, 4, 4)).astype("f4")
    original.write(tmp_path / "samples.npz", [frames], 1)
    found = data.read(
        tmp_path / "samples.npz", fields=["density"], units={"density": "Msun / pc3"}, box_size=(60, 60, 60)
    )
    np.testing.assert_array_equal(found.fields["density"], frames[:, 0])
    assert found.units["density"] == u.Msun / u.pc**3


def test_particles_need_a_centre(snapshot):
    with pytest.raises(UserError, match=r"holds particles, not a grid: .*--center"):
        data.read(snapshot)


def write_group(path, *names):
    with h5py.File(path, "w") as file:
        for name in names:
            file.create_group(name)


def write_weights(path):
    with path.open("wb") as file:
        np.savez(file, weights=np.ones(3))


def cut(path):
    write_group(path, "dimensions", "t0_fields")
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_bytes(b"not a file of numbers"), "neither an HDF5 file nor an npz file"),
        (lambda path: path.write_bytes(b"PK\x03\x04rest"), "cut short or damaged"),
        (cut, "is cut short"),
        (lambda path: write_group(path, "Header"), "snapshot without gas"),
        (lambda path: write_group(path, "stars", "planets"), "it holds: planets, stars"),
        (write_weights, r"not a sample file: it holds weights\.npy"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, make, message):
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(UserError, match=message) as caught:
        data.read(path)
    assert str(path) in str(caught.value)
