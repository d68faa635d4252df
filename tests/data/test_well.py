"""The Well's layout: written, read back, read by The Well's own reader, and refused where it is broken."""

import os
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy import units as u
from the_well.data import WellDataset

from mim3d.data import well
from mim3d.errors import UserError
from mim3d.fields import Trajectory

PUBLISHED_UNITS = {
    "density": "Msun / pc3",
    "pressure": "Msun km2 / (pc3 s2)",
    "temperature": "K",
    "velocity": u.km / u.s,
    "time": "Myr",
    "length": "pc",
}


def write_published(
    path: Path, trajectories: int = 2, frames: int = 6, voxels: int = 8
) -> dict[str, np.ndarray]:
    """Write a file as the published `supernova_explosion_64` is laid out: without units, uneven in time."""
    random = np.random.default_rng(0)
    space = (voxels,) * 3
    arrays = {
        name: random.lognormal(size=(trajectories, frames, *space)).astype("f4")
        for name in ("density", "pressure", "temperature")
    }
    arrays["velocity"] = random.normal(size=(trajectories, frames, *space, 3)).astype("f4")
    arrays["time"] = np.array([0, 1e-4, 3e-4, 1e-3, 8e-3, 0.018][:frames], dtype="f4")
    with h5py.File(path, "w") as file:
        file.attrs.update(
            dataset_name="supernova_explosion",
            grid_type="cartesian",
            n_spatial_dims=3,
            n_trajectories=trajectories,
            simulation_parameters=["Msun", "rho0", "Z", "T0"],
            Msun=0.1,
            rho0=44.5,
            Z=1.0,
            T0=100.0,
        )
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y", "z"]
        dimensions["time"] = arrays["time"]
        dimensions["time"].attrs.update(sample_varying=False, time_varying=True)
        for axis in "xyz":
            step = 60 / voxels
            dimensions[axis] = (-30 + step * (np.arange(voxels) + 0.5)).astype("f4")
            dimensions[axis].attrs.update(sample_varying=False, time_varying=False)
        boundaries = file.create_group("boundary_conditions")
        for axis in "xyz":
            group = boundaries.create_group(f"{axis}_open")
            group.attrs.update(
                associated_dims=[axis],
                associated_fields=[],
                bc_type="OPEN",
                sample_varying=False,
                time_varying=False,
            )
            mask = np.zeros(voxels, dtype=bool)
            mask[[0, -1]] = True
            group["mask"] = mask
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["Msun", "rho0", "Z", "T0"]
        for name in scalars.attrs["field_names"]:
            scalars[name] = np.float32(file.attrs[name])
            scalars[name].attrs.update(sample_varying=False, time_varying=False)
        for order, names in ((0, ["density", "pressure", "temperature"]), (1, ["velocity"]), (2, [])):
            group = file.create_group(f"t{order}_fields")
            group.attrs["field_names"] = names
            for name in names:
                group[name] = arrays[name]
                group[name].attrs.update(dim_varying=[True] * 3, sample_varying=True, time_varying=True)
    return arrays


def assert_same(found: Trajectory, expected: Trajectory) -> None:
    assert list(found.fields) == list(expected.fields)
    for name, values in expected.fields.items():
        np.testing.assert_array_equal(found.fields[name], values)
        assert found.units[name] == expected.units[name]
    np.testing.assert_array_equal(found.times, expected.times)
    for name in ("box_size", "origin", "site", "boundary", "time_unit", "length_unit"):
        assert getattr(found, name) == getattr(expected, name), name
    assert dict(found.parameters) == dict(expected.parameters)
    assert (found.twin is None) == (expected.twin is None)


@pytest.mark.parametrize("grid", [(8, 8, 8), (8, 6), (16,), (4, 8, 6)])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, run_like, grid, compression):
    sides = tuple(7.1 * count for count in grid)
    run = run_like(grid=grid, box_size=sides, twin=False, boundary="periodic", site=(0.1,) * len(grid))
    path = tmp_path / "new" / "run.h5"
    well.write(path, run, compression=compression)
    assert_same(well.read(path), run)


def test_the_twin_comes_along(tmp_path, run):
    well.write(tmp_path / "run.h5", run)
    found = well.read(tmp_path / "run.h5")
    assert_same(found, run)
    np.testing.assert_array_equal(found.twin.fields["density"], run.twin.fields["density"])
    assert found.twin.units["density"] == u.Msun / u.pc**3
    with well.open(tmp_path / "run.h5") as file:
        np.testing.assert_array_equal(
            file.frames("density", 0, slice(1, 3), twin=True), run.twin.fields["density"][1:3]
        )
        with pytest.raises(UserError, match="twin has no field 'velocity'"):
            file.frames("velocity", twin=True)


def test_several_runs_in_a_file_keep_their_times_sites_and_parameters(tmp_path, run_like):
    path = tmp_path / "runs.h5"
    runs = [
        run_like(
            seed,
            twin=False,
            times=np.array([0, 1e-4, 0.01, 0.013, 0.2]) * (seed + 1),
            site=(10.0 + seed, 20.0, 30.0),
            parameters={"mach_number": u.Quantity(float(seed)), "energy": (1 + seed) * 1e51 * u.erg},
        )
        for seed in range(3)
    ]
    well.write(path, runs)
    assert well.count(path) == 3
    for number, run in enumerate(runs):
        assert_same(well.read(path, number), run)
    with pytest.raises(UserError, match=r"holds 3 trajectories \(0 to 2\), no 3"):
        well.read(path, 3)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"frames": 4}, "number of frames"),
        ({"grid": (8, 8, 4)}, "grid"),
        ({"box_size": (30.0,) * 3}, "box_size"),
        ({"boundary": "wall"}, "boundary"),
        ({"units": {"density": u.kg / u.m**3, "velocity": u.km / u.s}}, "units"),
        ({"parameters": {}}, "parameters"),
    ],
)
def test_runs_that_do_not_fit_into_one_file_are_refused(tmp_path, run_like, changes, what):
    with pytest.raises(UserError, match=f"same {what}"):
        well.write(tmp_path / "runs.h5", [run_like(twin=False), run_like(twin=False, **changes)])
    assert not list(tmp_path.iterdir())


def test_other_readers_see_an_ordinary_file(tmp_path, run_like):
    """The Well's own reader takes our files, several runs each, and does not see the twin."""
    runs = [run_like(seed, times=np.array([0, 0.001, 0.01, 0.02, 0.05]) * (seed + 1)) for seed in range(2)]
    well.write(tmp_path / "a.h5", runs)
    well.write(tmp_path / "b.h5", [run_like(seed) for seed in (2, 3)])
    dataset = WellDataset(path=str(tmp_path), n_steps_input=2, n_steps_output=3)
    assert dataset.metadata.field_names == {
        0: ["density"],
        1: ["velocity_x", "velocity_y", "velocity_z"],
        2: [],
    }
    assert dataset.metadata.constant_scalar_names == ["mach_number", "energy"]
    assert len(dataset) == 4
    item = dataset[1]
    assert item["input_fields"].shape == (2, 8, 8, 8, 4)
    np.testing.assert_array_equal(item["input_fields"][..., 0], runs[1].fields["density"][:2])
    np.testing.assert_array_equal(item["output_fields"][..., 1:], runs[1].fields["velocity"][2:])
    np.testing.assert_allclose(item["output_time_grid"], runs[1].times[2:])
    np.testing.assert_allclose(item["space_grid"][0, 0, :, 2], (np.arange(8) + 0.5) * 7.5)
    np.testing.assert_array_equal(item["boundary_conditions"], np.ones((3, 2)))
    np.testing.assert_allclose(item["constant_scalars"], [5, 1e51])


@pytest.mark.parametrize(("boundary", "code"), [("wall", 0), ("open", 1), ("periodic", 2)])
def test_other_readers_see_the_boundaries(tmp_path, run_like, boundary, code):
    well.write(tmp_path / "run.h5", run_like(grid=(8, 8), boundary=boundary, twin=False))
    item = WellDataset(path=str(tmp_path))[0]
    np.testing.assert_array_equal(item["boundary_conditions"], np.full((2, 2), code))


def test_published_files_open_once_units_are_given(tmp_path):
    path = tmp_path / "supernova_explosion_Msun_1_dim64_file_00.hdf5"
    arrays = write_published(path)
    assert len(WellDataset(path=str(tmp_path))) == 10, "the file is not as The Well's own reader wants it"
    run = well.read(path, 1, PUBLISHED_UNITS)
    assert list(run.fields) == ["density", "pressure", "temperature", "velocity"]
    for name in run.fields:
        np.testing.assert_array_equal(run.fields[name], arrays[name][1])
    np.testing.assert_allclose(run.times, [0, 1e-4, 3e-4, 1e-3, 8e-3, 0.018], rtol=1e-6)
    np.testing.assert_allclose(run.box_size, 60, rtol=1e-6)
    np.testing.assert_allclose(run.origin, -30, rtol=1e-6)
    np.testing.assert_allclose(run.site, 0, atol=1e-5)
    assert run.boundary == "open"
    assert run.parameters["rho0"].value == pytest.approx(44.5)
    assert run.units["velocity"] == u.km / u.s


def test_missing_units_are_all_named_at_once(tmp_path):
    path = tmp_path / "published.hdf5"
    write_published(path)
    with pytest.raises(UserError) as caught:
        well.read(path, fields=["density", "velocity"], units={"density": "Msun / pc3"})
    assert "no units for velocity, time, length" in str(caught.value)
    assert 'units={"velocity": "..."' in str(caught.value)
    with pytest.raises(UserError, match="'parsnip', given as the unit of density, is not a unit"):
        well.read(path, units={**PUBLISHED_UNITS, "density": "parsnip"})


def test_units_in_the_file_win_over_those_given(tmp_path, run):
    well.write(tmp_path / "run.h5", run)
    assert well.read(tmp_path / "run.h5", units={"density": "kg / m3"}).units["density"] == u.Msun / u.pc**3


def test_fields_that_do_not_vary_are_repeated(tmp_path):
    path = tmp_path / "file.hdf5"
    write_published(path)
    with h5py.File(path, "a") as file:
        del file["t0_fields/pressure"]
        pressure = file["t0_fields"].create_dataset("pressure", data=np.arange(8, dtype="f4"))
        pressure.attrs.update(dim_varying=[True, False, False], sample_varying=False, time_varying=False)
    run = well.read(path, 0, PUBLISHED_UNITS)
    assert run.fields["pressure"].shape == (6, 8, 8, 8)
    np.testing.assert_array_equal(run.fields["pressure"][3, :, 2, 5], np.arange(8))


def test_boundaries_that_differ_are_called_mixed(tmp_path, run_like):
    path = tmp_path / "run.h5"
    well.write(path, run_like(grid=(8, 8), boundary="periodic", twin=False))
    with h5py.File(path, "a") as file:
        file["boundary_conditions/y_periodic"].attrs["bc_type"] = "WALL"
        file["boundary_conditions/y_periodic/mask"][-1] = False
    with well.open(path) as file:
        assert file.boundaries == {"x": ("periodic", "periodic"), "y": ("wall", "open")}
        assert file.boundary == "mixed"
    mixed = well.read(path)
    with pytest.raises(UserError, match="boundary 'mixed' cannot be written"):
        well.write(tmp_path / "other.h5", mixed)


def test_frames_are_read_without_reading_the_file(tmp_path, run_like):
    """Reading one frame of a 10 MB file takes memory for one frame."""
    path = tmp_path / "long.h5"
    run = run_like(frames=80, grid=(32, 32, 32), twin=False)
    well.write(path, run)
    with well.open(path) as file:
        file.frames("density", 0, slice(0, 1))
        tracemalloc.start()
        for frame in range(0, 80, 10):
            np.testing.assert_array_equal(
                file.frames("density", 0, slice(frame, frame + 1))[0], run.fields["density"][frame]
            )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1e6


def test_cut_short_at_any_place_gives_one_clear_line(tmp_path, run_like):
    whole = tmp_path / "run.h5"
    well.write(whole, run_like(frames=3, grid=(4, 4, 4)))
    data = whole.read_bytes()
    for length in (0, 7, 100, 1000, len(data) // 2, len(data) - 1):
        path = tmp_path / f"cut_{length}.h5"
        path.write_bytes(data[:length])
        with pytest.raises(
            UserError, match=rf"cut_{length}\.h5 is (cut short|not an HDF5 file, or is damaged)"
        ) as e:
            well.read(path)
        assert "\n" not in str(e.value)


def test_a_damaged_frame_is_refused(tmp_path, run):
    path = tmp_path / "run.h5"
    well.write(path, run, compression="gzip")
    with h5py.File(path) as file:
        chunk = file["t0_fields/density"].id.get_chunk_info(2)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    with pytest.raises(UserError, match=r"run\.h5 is damaged"):
        well.read(path)
    np.testing.assert_array_equal(
        well.read(path, frames=slice(0, 2)).fields["density"], run.fields["density"][:2]
    )


def test_a_lost_object_is_refused(tmp_path, run):
    """The address of an object points past the end of the file."""
    path = tmp_path / "run.h5"
    well.write(path, run)
    with h5py.File(path, "a") as file:
        del file["scalars"]
        file["scalars"] = h5py.SoftLink("/nowhere")
    with pytest.raises(UserError, match=r"run\.h5 is damaged"):
        well.read(path)


def test_foreign_files_are_refused_with_their_names(tmp_path):
    with pytest.raises(UserError, match=r"no file .*nothing\.h5"):
        well.read(tmp_path / "nothing.h5")
    with pytest.raises(UserError, match="is a folder"):
        well.read(tmp_path)
    text = tmp_path / "text.h5"
    text.write_text("density 1 2 3")
    with pytest.raises(UserError, match=r"text\.h5 is not an HDF5 file"):
        well.read(text)
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["density"] = np.ones(3)
    with pytest.raises(
        UserError, match=r"foreign\.h5 is not in The Well's layout: it has no group 'dimensions'"
    ):
        well.read(foreign)


def break_shape(file):
    del file["t0_fields/density"]
    file["t0_fields/density"] = np.ones((1, 5, 8, 8, 7), dtype="f4")


def break_axes(file):
    file["dimensions"].attrs["spatial_dims"] = ["x", "y", "phi"]


def break_spacing(file):
    del file.attrs["box_size"]
    file["dimensions/x"][:] = np.geomspace(1, 60, 8)


def break_times(file):
    file["dimensions/time"][:] = [0, 1, 2, 2, 3]


def break_names(file):
    file["t0_fields"].attrs["field_names"] = ["density", "entropy"]


def break_grid_type(file):
    file.attrs["grid_type"] = "spherical"


def break_boundary(file):
    file["boundary_conditions/x_open"].attrs["bc_type"] = "LEAKY"


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (break_shape, r"field 'density' has shape \(1, 5, 8, 8, 7\)"),
        (break_axes, "phi"),
        (break_spacing, "not evenly spaced along x"),
        (break_times, "strictly increasing"),
        (break_names, "lists a field 'entropy'"),
        (break_grid_type, "spherical grid"),
        (break_boundary, "boundaries of kind 'leaky'"),
    ],
)
def test_files_at_odds_with_themselves_are_refused(tmp_path, run, breaking, message):
    path = tmp_path / "odd.h5"
    well.write(path, run)
    with h5py.File(path, "a") as file:
        breaking(file)
    with pytest.raises(UserError, match=message) as caught:
        well.read(path)
    assert "odd.h5" in str(caught.value)


def test_unknown_fields_are_refused(tmp_path, run):
    well.write(tmp_path / "run.h5", run)
    with pytest.raises(UserError, match=r"no field 'entropy' in .*; there are: density, velocity"):
        well.read(tmp_path / "run.h5", fields=["entropy"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, run, monkeypatch):
    path = tmp_path / "run.h5"
    well.write(path, run)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(well, "_write_parameters", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*run\.h5: no space left"):
        well.write(path, run)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.h5"]


def test_nothing_to_write_and_names_taken_are_refused(tmp_path, run_like):
    with pytest.raises(UserError, match="no trajectories"):
        well.write(tmp_path / "run.h5", [])
    with pytest.raises(UserError, match="cannot be called 'grid_type'"):
        well.write(tmp_path / "run.h5", run_like(parameters={"grid_type": u.Quantity(1.0)}))
