"""What a file holds, and how it comes onto a model's grid."""

import h5py
import numpy as np
import pytest

from mim3d.data import original, well
from mim3d.inputs import fields_in


def test_fields_of_a_grid(tmp_path, small_blast):
    well.write(tmp_path / "cloud.h5", small_blast)
    assert set(fields_in(tmp_path / "cloud.h5")) == set(small_blast.fields)


@pytest.mark.parametrize("energy", ["InternalEnergy", "InternalEnergies", None])
def test_fields_of_particles(tmp_path, energy):
    with h5py.File(tmp_path / "snapshot.hdf5", "w") as file:
        file["PartType0/Coordinates"] = np.zeros((3, 3))
        if energy is not None:
            file[f"PartType0/{energy}"] = np.ones(3)
    fields = fields_in(tmp_path / "snapshot.hdf5")
    assert fields[:2] == ("density", "velocity")
    assert ("temperature" in fields) == (energy is not None)


def test_samples_of_one_channel_are_densities(tmp_path):
    for channels, expected in ((1, ("density",)), (2, ())):
        original.write(tmp_path / "samples.npz", [np.ones((4, channels, 8, 8, 8), np.float32)], 1)
        assert fields_in(tmp_path / "samples.npz") == expected
