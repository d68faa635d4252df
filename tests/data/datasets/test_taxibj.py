"""TaxiBJ: raw files with gaps, the division in time, scaling back to vehicles, and OpenSTL's file."""

import h5py
import numpy as np
import pytest
import torch

from mim3d.data.datasets import open_dataset
from mim3d.data.datasets.taxibj import read_year
from mim3d.errors import UserError


def write_year(path, days, missing=(), grid=(4, 4), first=0):
    """Write days of October 2013; the flow of a half hour is its number since the month began."""
    rows = [(day, slot) for day in days for slot in range(1, 49) if (day, slot) not in missing]
    count = np.array([(day - 1) * 48 + slot - 1 for day, slot in rows], dtype=np.float64)
    data = np.broadcast_to(count[:, None, None, None], (len(rows), 2, *grid)).copy() + first
    data[:, 1] += 0.5
    with h5py.File(path, "w") as file:
        file["data"] = data
        file["date"] = np.array([f"201310{day:02d}{slot:02d}".encode() for day, slot in rows])
    return path


def test_days_that_lack_a_half_hour_are_left_out(tmp_path):
    path = write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", range(1, 6), missing={(3, 20)})
    year = read_year(path)
    assert year.flows.shape == (4 * 48, 2, 4, 4)
    assert sorted({str(time)[8:10] for time in year.times}) == ["01", "02", "04", "05"]
    assert year.times[0] == np.datetime64("2013-10-01T00:00")
    assert year.times[47] == np.datetime64("2013-10-01T23:30")
    assert (year.flows[:, 1] - year.flows[:, 0] == 0.5).all()


def test_a_day_with_a_half_hour_twice_is_left_out_and_order_does_not_matter(tmp_path):
    path = write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", (1, 2, 3))
    with h5py.File(path, "a") as file:
        dates = file["date"][()]
        dates[48] = dates[49]
        order = np.random.default_rng(0).permutation(len(dates))
        data = file["data"][()]
        del file["date"], file["data"]
        file["date"], file["data"] = dates[order], data[order]
    year = read_year(path)
    assert year.flows[:, 0, 0, 0].tolist() == [*range(48), *range(96, 144)]


def test_windows_go_forward_and_never_over_a_gap(tmp_path):
    write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", range(1, 6), missing={(3, 20)})
    options = {"test_windows": 10, "validation_days": 0}
    train, test = (open_dataset("taxibj", tmp_path, split, **options) for split in ("train", "test"))
    assert train.shape == test.shape == (8, 2, 4, 4)
    assert (train.input_length, train.unit) == (4, "vehicles per half hour")
    assert len(test) == 10
    # 96 - 7 windows in two days each; of the last two days' 89, 10 are test and 7 share a frame with it.
    assert len(train) == 89 + 89 - 10 - 7
    for dataset in (train, test):
        for item in dataset:
            flows = dataset.physical(item)[:, 0, 0, 0]
            torch.testing.assert_close(flows.diff(), torch.ones(7), rtol=0, atol=1e-3)
    assert test.physical(test[9])[-1, 1, 0, 0] == pytest.approx(5 * 48 - 1 + 0.5)
    assert test.label(9) == "2013-10-05 20:00"


def test_splits_share_no_frame(tmp_path):
    write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", range(1, 8))
    parts = {}
    for split in ("train", "validation", "test"):
        dataset = open_dataset("taxibj", tmp_path, split, test_windows=48, validation_days=2)
        starts = np.asarray(dataset.starts)
        parts[split] = set((starts[:, None] + np.arange(8)).ravel().tolist())
        if split == "validation":
            assert len(dataset) == 2 * 48 - 7
    assert not parts["train"] & parts["validation"]
    assert not parts["validation"] & parts["test"]
    assert max(parts["train"]) < min(parts["validation"])
    assert max(parts["validation"]) < min(parts["test"])


def test_the_scaling_is_that_of_the_training_frames_in_all_splits(tmp_path):
    write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", range(1, 6), first=10)
    train, test = (
        open_dataset("taxibj", tmp_path, split, test_windows=48, validation_days=1)
        for split in ("train", "test")
    )
    assert train.scaling == test.scaling
    everything = torch.stack(list(train))
    assert float(everything.min()) == 0
    assert float(everything.max()) == 1
    assert max(float(item.max()) for item in test) > 1
    assert train.physical(everything).min() == pytest.approx(10)


def test_flows_below_zero_become_zero_and_years_follow_each_other(tmp_path):
    write_year(tmp_path / "BJ16_M32x32_T30_InOut.h5", (4, 5))
    write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", (1, 2), first=-5)
    (tmp_path / "BJ_Meteorology.h5").write_bytes(b"not read")
    dataset = open_dataset("taxibj", tmp_path, test_windows=5, validation_days=0)
    assert len(dataset.flows) == 4 * 48
    assert dataset.flows.min() == 0
    assert (np.diff(dataset.times) > np.timedelta64(0)).all()
    single = open_dataset("taxibj", tmp_path / "BJ16_M32x32_T30_InOut.h5", test_windows=5, validation_days=0)
    assert len(single.flows) == 2 * 48


def test_the_published_division(tmp_path):
    """With enough days, the test is 1344 windows."""
    write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", range(1, 32), grid=(1, 1))
    dataset = open_dataset("taxibj", tmp_path, validation_days=1)
    assert len(dataset) == 1344
    with pytest.raises(UserError, match=r"too few: none is left for train"):
        open_dataset("taxibj", tmp_path, "train")


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="needs its files"):
        open_dataset("taxibj")
    with pytest.raises(UserError, match="no folder"):
        open_dataset("taxibj", tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no files BJ\*InOut.h5"):
        open_dataset("taxibj", tmp_path)
    path = write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", (1, 2))
    with pytest.raises(UserError, match="too few"):
        open_dataset("taxibj", path)
    with pytest.raises(UserError, match="test_windows must be >= 1"):
        open_dataset("taxibj", path, test_windows=0)
    with pytest.raises(UserError, match="no option 'highest'"):
        open_dataset("taxibj", path, highest=1292)
    write_year(tmp_path / "BJ14_M32x32_T30_InOut.h5", (2, 3))
    with pytest.raises(UserError, match=r"two files .* hold 2013-10-02T00:00"):
        open_dataset("taxibj", tmp_path, test_windows=5, validation_days=0)
    write_year(tmp_path / "BJ14_M32x32_T30_InOut.h5", (3, 4), grid=(4, 5))
    with pytest.raises(UserError, match="differ in their grids"):
        open_dataset("taxibj", tmp_path, test_windows=5, validation_days=0)


def break_file(path, how):
    with h5py.File(path, "a") as file:
        data, dates = file["data"][()], file["date"][()]
        if how == "no date":
            del file["date"]
        elif how == "short date":
            del file["date"]
            file["date"] = dates[:-1]
        elif how == "slot 49":
            dates[3] = b"2013100149"
            file["date"][...] = dates
        elif how == "no day":
            dates[3] = b"2013139904"
            file["date"][...] = dates
        elif how == "one channel":
            del file["data"]
            file["data"] = data[:, :1]
        elif how == "nan":
            data[5, 0, 0, 0] = np.nan
            file["data"][...] = data
        elif how == "a group":
            del file["data"]
            file.create_group("data")
        elif how == "no whole day":
            del file["data"], file["date"]
            file["data"], file["date"] = data[:47], dates[:47]
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:3000])
    elif how == "no HDF5":
        path.write_bytes(b"\x80\x04\x95pickle")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no date", "holds no data set 'date'"),
        ("a group", "holds no data set 'data'"),
        ("short date", "date must be 96 texts"),
        ("slot 49", "date 3 is '2013100149'"),
        ("no day", "date 3 is '2013139904'"),
        ("one channel", r"must be numbers \(T, 2, height, width\)"),
        ("nan", "2013-10-01T02:30 hold NaN"),
        ("no whole day", "no day with all 48"),
        ("cut short", "cut short"),
        ("no HDF5", "is not HDF5"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path, how, message):
    path = write_year(tmp_path / "BJ13_M32x32_T30_InOut.h5", (1, 2))
    break_file(path, how)
    with pytest.raises(UserError, match=message):
        read_year(path)


def write_openstl(path, train=40, test=5):
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        for name in "XY":
            arrays[f"{name}_{part}"] = random.uniform(-1, 1, (count, 4, 2, 3, 3)).astype(np.float32)
    np.savez(path, **arrays)
    return arrays


def test_file_of_openstl(tmp_path):
    arrays = write_openstl(tmp_path / "dataset.npz")
    test = open_dataset("taxibj", tmp_path, highest=1292)
    assert len(test) == 5
    assert test.shape == (8, 2, 3, 3)
    np.testing.assert_allclose(test[2][:4], (arrays["X_test"][2] + 1) / 2)
    np.testing.assert_allclose(test[2][4:], (arrays["Y_test"][2] + 1) / 2)
    np.testing.assert_allclose(
        test.physical(test[2])[:4], (arrays["X_test"][2] + 1) * 646, rtol=1e-4, atol=0.01
    )
    train, validation = (
        open_dataset("taxibj", tmp_path / "dataset.npz", split) for split in ("train", "validation")
    )
    assert (len(train), len(validation)) == (40 - 4 - 8, 4)
    assert train.unit == ""
    np.testing.assert_allclose(validation[0][:4], (arrays["X_train"][36] + 1) / 2)
    everything = open_dataset("taxibj", tmp_path, "train", validation_windows=0)
    assert len(everything) == 40


def test_broken_files_of_openstl(tmp_path):
    path = tmp_path / "dataset.npz"
    arrays = write_openstl(path, 3)
    with pytest.raises(UserError, match="none is left for train"):
        open_dataset("taxibj", path, "train")
    with pytest.raises(UserError, match="highest must be > 0"):
        open_dataset("taxibj", path, highest=-1)
    np.savez(path, X_test=arrays["X_test"])
    with pytest.raises(UserError, match="no array 'Y_test'"):
        open_dataset("taxibj", path)
    np.savez(path, X_test=arrays["X_test"], Y_test=arrays["Y_test"][:2])
    with pytest.raises(UserError, match=r"X_test is \(5, 4, 2, 3, 3\)"):
        open_dataset("taxibj", path)
    np.savez(path, X_test=arrays["X_test"][:, :, :1], Y_test=arrays["Y_test"])
    with pytest.raises(UserError, match="X_test must be numbers"):
        open_dataset("taxibj", path)
    np.savez(path, X_test=np.array([None]), Y_test=arrays["Y_test"])
    with pytest.raises(UserError, match="Python objects"):
        open_dataset("taxibj", path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cut short"):
        open_dataset("taxibj", path)
