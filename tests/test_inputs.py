"""What a file holds, and how it comes onto a model's grid."""

import h5py
import numpy as np
import pytest

from mim3d.data import original, well
from mim3d.inputs import fields_in, read_input


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


def test_velocities_are_against_the_mean_of_the_mass(tmp_path, make_checkpoint):
    generator = np.random.default_rng(0)
    positions = generator.uniform(0, 60, (4000, 3))
    turbulent = generator.normal(0, 5, (4000, 3))
    found = []
    for bulk in (0.0, 220.0):
        with h5py.File(tmp_path / "snapshot.hdf5", "w") as file:
            header = file.create_group("Header").attrs
            header["NumPart_ThisFile"] = header["NumPart_Total"] = [len(positions), 0, 0, 0, 0, 0]
            header["NumFilesPerSnapshot"] = 1
            header["BoxSize"] = 60.0
            gas = file.create_group("PartType0")
            gas["Coordinates"] = positions
            gas["Masses"] = np.full(len(positions), 50.0)
            gas["Velocities"] = turbulent + np.array([0, bulk, 0])
            gas["ParticleIDs"] = np.arange(len(positions))
        units = {"length": "pc", "mass": "Msun", "velocity": "km/s"}
        path = tmp_path / "snapshot.hdf5"
        found.append(read_input(path, make_checkpoint(), center=(30, 30, 30), units=units).trajectory)
    still, moving = (gas.fields["velocity"] for gas in found)
    np.testing.assert_allclose(moving, still, atol=1e-3)
    momentum = (found[0].fields["density"][..., None] * still).sum(axis=(0, 1, 2, 3))
    assert np.abs(momentum).max() < 1e-4 * np.abs(found[0].fields["density"][..., None] * still).sum()
    assert still.std() > 1
