"""The sample files of the original programs, both ways."""

import tracemalloc
import zipfile

import numpy as np
import pytest
from astropy import units as u

from mim3d.data import original
from mim3d.errors import UserError


def sequences(count=3, length=20, dims=(1, 8, 8, 8)):
    return list(np.random.default_rng(0).random((count, length, *dims), dtype=np.float32))


@pytest.mark.parametrize("dims", [(1, 32, 32, 32), (1, 16, 16), (3, 8, 6), (2, 12)])
def test_what_is_written_is_read_back(tmp_path, dims):
    path = tmp_path / "new" / "samples.npz"
    written = sequences(dims=dims, length=4)
    original.write(path, written, 1)
    samples = original.read(path)
    assert len(samples) == 3
    assert samples.dims == dims
    assert samples.input_length(2) == 1
    for found, expected in zip(samples, written, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(samples[1:][1], written[2])


def test_the_arrays_are_those_that_the_original_programs_read(tmp_path):
    """Keys, shapes and numbers of the published 3-D sample file: 12 sequences of 1 + 19 frames."""
    path = tmp_path / "SampleData.npz"
    written = sequences(12, 20, (1, 4, 4, 4))
    original.write(path, written, 1)
    with np.load(path, allow_pickle=False) as file:
        assert set(file) == {"clips", "dims", "input_raw_data"}
        np.testing.assert_array_equal(file["dims"], [[1, 4, 4, 4]])
        assert file["input_raw_data"].shape == (240, 1, 4, 4, 4)
        assert file["input_raw_data"].dtype == np.float32
        assert file["clips"].shape == (2, 12, 2)
        np.testing.assert_array_equal(file["clips"][0, 3], [60, 1])
        np.testing.assert_array_equal(file["clips"][1, 3], [61, 19])
        start, length = file["clips"][1, 5]
        np.testing.assert_array_equal(file["input_raw_data"][start : start + length], written[5][1:])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dims", [[[1, 64, 64]], [[1, 64, 64], [1, 64, 64]]])
def test_published_moving_mnist_files_open(tmp_path, save, dims):
    path = tmp_path / "moving-mnist-test.npz"
    frames = np.random.default_rng(0).random((60, 1, 64, 64)).astype("f4")
    clips = np.array([[[20 * i, 10] for i in range(3)], [[20 * i + 10, 10] for i in range(3)]])
    save(path, clips=clips, dims=np.array(dims), input_raw_data=frames)
    samples = original.read(path)
    assert len(samples) == 3
    np.testing.assert_array_equal(samples[2], frames[40:])
    assert samples.input_length() == 10


def test_output_frames_may_lie_apart_and_types_may_differ(tmp_path):
    path = tmp_path / "apart.npz"
    inputs = np.arange(4 * 9, dtype=np.uint8).reshape(4, 1, 3, 3)
    outputs = np.asfortranarray(np.arange(6 * 9, dtype=">f8").reshape(6, 1, 3, 3))
    clips = np.array([[[0, 2], [2, 2]], [[3, 3], [0, 3]]])
    np.savez(
        path,
        clips=clips,
        dims=np.array([[1, 3, 3]] * 2),
        input_raw_data=inputs,
        output_raw_data=outputs,
    )
    samples = original.read(path)
    np.testing.assert_array_equal(samples[0], np.concatenate([inputs[:2], outputs[3:]]))
    np.testing.assert_array_equal(samples[1], np.concatenate([inputs[2:], outputs[:3]]))
    assert samples[0].dtype == np.float32


def test_frames_stay_on_disk(tmp_path):
    """Reading one sequence of a 20 MB file takes memory for one sequence; so does copying the file."""
    path = tmp_path / "large.npz"
    original.write(path, sequences(40, 2, (1, 40, 40, 40)), 1)
    tracemalloc.start()
    samples = original.read(path)
    assert samples[33].shape == (2, 1, 40, 40, 40)
    original.write(tmp_path / "copy.npz", samples, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6
    np.testing.assert_array_equal(original.read(tmp_path / "copy.npz")[33], samples[33])


def test_a_sequence_becomes_a_trajectory(tmp_path):
    path = tmp_path / "samples.npz"
    written = sequences(2, 4, (2, 8, 8, 8))
    original.write(path, written, 1)
    samples = original.read(path)
    plain = samples.trajectory(1)
    assert list(plain.fields) == ["channel_0", "channel_1"]
    assert plain.units["channel_0"] == u.dimensionless_unscaled
    assert plain.box_size == (8, 8, 8)
    assert plain.length_unit == u.pix
    gas = samples.trajectory(
        0,
        fields=["density", "temperature"],
        units={"density": "Msun / pc3", "temperature": u.K, "time": "Myr", "length": "pc"},
        box_size=(60, 60, 60),
        time_step=1 / 150,
    )
    np.testing.assert_array_equal(gas.fields["temperature"], written[0][:, 1])
    assert gas.units["density"] == u.Msun / u.pc**3
    assert gas.time_unit == u.Myr
    np.testing.assert_allclose(gas.times, np.arange(4) / 150)
    assert gas.voxel_size == (7.5,) * 3
    with pytest.raises(UserError, match="2 channels, 1 fields were named"):
        samples.trajectory(fields=["density"])
    with pytest.raises(UserError, match="2 sequences"):
        samples.trajectory(2)
    with pytest.raises(UserError, match="time_step must be > 0"):
        samples.trajectory(time_step=0)
    with pytest.raises(UserError, match="'parsnip', given as the unit of time"):
        samples.trajectory(units={"time": "parsnip"})


GOOD = {
    "clips": np.array([[[0, 1]], [[1, 3]]]),
    "dims": np.array([[1, 4, 4]]),
    "input_raw_data": np.zeros((4, 1, 4, 4), dtype="f4"),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": np.zeros((2, 3))}, r"clips must be integers \(2, sequences, 2\), found float64 \(2, 3\)"),
        ({"clips": np.zeros((2, 0, 2), dtype=int)}, "no sequences"),
        ({"clips": np.array([[[0, 1]], [[2, 3]]])}, "output of sequence 0 is 3 frames from 2, .* 4 frames"),
        ({"clips": np.array([[[-1, 1]], [[1, 3]]])}, "input of sequence 0 is 1 frames from -1"),
        ({"dims": np.array([[1, 5, 5]])}, r"dims says \(1, 5, 5\), the frames are \(1, 4, 4\)"),
        ({"input_raw_data": np.zeros((4, 16))}, r"found float64 \(4, 16\)"),
        ({"input_raw_data": np.array(["a"])}, "found <U1"),
        ({"input_raw_data": np.array([{}, None])}, "holds Python objects"),
        ({"output_raw_data": np.zeros((4, 1, 5, 5))}, r"output frames \(1, 5, 5\)"),
        ({"clips": None}, "holds no clips"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, changes, message):
    path = tmp_path / "bad.npz"
    arrays = {name: array for name, array in {**GOOD, **changes}.items() if array is not None}
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message) as caught:
        original.read(path)
    assert "bad.npz" in str(caught.value)


def test_three_numbers_describe_a_cube_too(tmp_path):
    path = tmp_path / "samples.npz"
    arrays = {**GOOD, "input_raw_data": np.zeros((4, 1, 5, 5, 5)), "dims": np.array([[1, 5, 5]])}
    np.savez(path, **arrays)
    assert original.read(path).dims == (1, 5, 5, 5)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_cut_short_at_any_place_gives_one_clear_line(tmp_path, save):
    save(tmp_path / "whole.npz", **GOOD)
    data = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in (0, 3, 50, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut\.npz is not an npz file, or is cut short"):
            original.read(path)


def test_an_array_whose_header_lies_is_refused(tmp_path):
    path = tmp_path / "lies.npz"
    np.savez(tmp_path / "good.npz", **GOOD)
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(path, "w") as lies:
        for name in good.namelist():
            data = good.read(name)
            lies.writestr(name, data[:-4] if name.startswith("input") else data)
    with pytest.raises(UserError, match=r"input_raw_data says its shape is \(4, 1, 4, 4\)"):
        original.read(path)


def test_what_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "samples.npz"
    with pytest.raises(UserError, match="no sequences"):
        original.write(path, [], 1)
    with pytest.raises(UserError, match="input_length must be from 1 to 19, found 20"):
        original.write(path, sequences(), 20)
    with pytest.raises(UserError, match=r"sequence 1 has shape \(3, 1, 4, 4\)"):
        original.write(path, [np.ones((2, 1, 4, 4)), np.ones((3, 1, 4, 4))], 1)
    with pytest.raises(UserError, match=r"found the shape \(2, 2\)"):
        original.write(path, [np.ones((2, 2))], 1)
    assert not list(tmp_path.iterdir())
