"""Windows of radar images: gaps, what was not measured, regions, tiles, splits, units."""

import pickle
from datetime import date, datetime

import numpy as np
import pytest
import torch

from mim3d.data.datasets import commands, open_dataset
from mim3d.data.datasets.radar.cache import FrameCache
from mim3d.data.datasets.radar.sequences import THRESHOLDS
from mim3d.errors import UserError

SHORT = {"num_frames": 4, "input_length": 2}
ALL = {**SHORT, "shares": (0, 0, 1)}


def test_every_format_gives_the_same_windows(archive_kind, tmp_path, write):
    values = write.moving_echo(6)
    folder = write.archive(archive_kind, tmp_path / "in", write.times_of(6), values)
    dataset = open_dataset("radar", folder, **ALL)
    assert (len(dataset), dataset.shape, dataset.input_length) == (3, (4, 1, 12, 16), 2)
    assert (dataset.channels, dataset.unit, dataset.time_step, dataset.time_unit) == (
        ("reflectivity",),
        "dBZ",
        5,
        "min",
    )
    assert dataset.thresholds == (30, 40, 50)
    for number in range(3):
        expected = torch.from_numpy(values[number : number + 4, None])
        missing = torch.isnan(expected)
        item, mask = dataset[number], dataset.mask(number)
        assert torch.equal(mask, missing)
        assert mask[..., 0].all()
        # What was not measured is 0 in the network's input.
        assert (item[mask] == 0).all()
        torch.testing.assert_close(dataset.physical(item)[~mask], expected[~missing], rtol=0, atol=1e-3)
    # Over the end of a day.
    assert [dataset.label(number) for number in (0, 2)] == ["2019-06-10 23:50:00", "2019-06-11 00:00:00"]


def test_windows_never_cross_a_gap(archive):
    dataset = open_dataset("radar", archive(30, without=(10, 11, 20)), **ALL)
    # Runs of 10, 8 and 9 frames.
    assert len(dataset) == 7 + 5 + 6
    start = np.datetime64("2019-06-10T23:50:00")
    firsts = []
    for number in range(len(dataset)):
        frames = dataset.physical(dataset[number])[:, 0]
        # The echo moves a pixel a frame.
        peaks = [int(frame.argmax()) % 16 for frame in frames]
        if peaks[-1] < 15:
            assert np.diff(peaks).tolist() == [1, 1, 1]
        time = np.datetime64(dataset.label(number).replace(" ", "T"))
        firsts.append(int((time - start) / np.timedelta64(5, "m")))
    assert firsts == [*range(7), *range(12, 17), *range(21, 27)]
    strided = open_dataset("radar", archive(30, without=(10, 11, 20)), stride=4, **ALL)
    assert len(strided) == 2 + 2 + 2


def test_longer_time_steps_and_frames_that_come_a_little_late(archive, tmp_path, write):
    whole = open_dataset("radar", archive(12), time_step=10, **ALL)
    assert (len(whole), whole.time_step) == (12 - 6, 10)
    np.testing.assert_allclose(
        whole.physical(whole[1])[:, 0, 5, 9], write.moving_echo(12)[[1, 3, 5, 7], 5, 9], atol=1e-3
    )
    values = write.moving_echo(6)
    for late, count in ((60, 3), (90, 0)):
        times = write.times_of(6)
        times[2] += np.timedelta64(late, "s")
        path = write.npz(tmp_path / f"late{late}.npz", times, reflectivity=values)
        if count:
            assert len(open_dataset("radar", path, **ALL)) == count
        else:
            with pytest.raises(UserError, match="0 windows of 4 frames 5 min apart without a gap"):
                open_dataset("radar", path, **ALL)


def test_splits_are_parts_of_the_time_and_share_no_frame(archive):
    path = archive(40)
    seen = {}
    for split, count in (("train", 20), ("validation", 10), ("test", 10)):
        dataset = open_dataset("radar", path, split, shares=(0.5, 0.25, 0.25), **SHORT)
        assert len(dataset) == count - 3
        seen[split] = [dataset.label(number) for number in (0, len(dataset) - 1)]
    assert seen["train"] == ["2019-06-10 23:50:00", "2019-06-11 01:10:00"]
    assert seen["validation"] == ["2019-06-11 01:30:00", "2019-06-11 02:00:00"]
    assert seen["test"][0] == "2019-06-11 02:20:00"
    moments = {"validation_from": "2019-06-11T01:00", "test_from": "2019-06-11T02:30", **SHORT}
    parts = {
        split: open_dataset("radar", path, split, **moments) for split in ("train", "validation", "test")
    }
    assert {split: len(part) for split, part in parts.items()} == {"train": 11, "validation": 15, "test": 5}
    assert parts["test"].label(0) == "2019-06-11 02:30:00"
    same = {"validation_from": datetime(2019, 6, 11, 1), "test_from": "2019-06-11T04:30+02:00", **SHORT}
    assert open_dataset("radar", path, "validation", **same).label(14) == parts["validation"].label(14)
    assert len(open_dataset("radar", path, "validation", **same)) == 15
    assert (
        len(
            open_dataset(
                "radar", path, validation_from=date(2019, 6, 11), test_from=date(2019, 6, 11), **SHORT
            )
        )
        == 35
    )
    none = {**moments, "validation_from": "2019-06-11T02:30"}
    assert len(open_dataset("radar", path, "train", **none)) == 29
    with pytest.raises(UserError, match="none of them wholly in the time of validation"):
        open_dataset("radar", path, "validation", **none)


def test_rain_rate_and_reflectivity_of_each_other(tmp_path, write):
    rate = np.broadcast_to(np.array([0, 0.01, 1, 10, 150, np.nan], np.float32), (4, 2, 6))
    path = write.npz(tmp_path / "a.npz", write.times_of(4), rain_rate=rate)
    echo = open_dataset("radar", path, **ALL)
    # No rain, and less than 0 dBZ, are 0 dBZ.
    expected = [0, 0, 23.0103, 39.0103, 57.828, 0]
    np.testing.assert_allclose(echo.physical(echo[0])[0, 0, 0], expected, atol=1e-3)
    other = open_dataset("radar", path, zr=[300, 1.4], **ALL)
    assert float(other.physical(other[0])[0, 0, 0, 2]) == pytest.approx(10 * np.log10(300), abs=1e-3)
    rain = open_dataset("radar", path, quantity="rain_rate", **ALL)
    assert (rain.unit, rain.channels, rain.thresholds) == ("mm/h", ("rain_rate",), (0.5, 2, 5, 10, 30))
    np.testing.assert_allclose(rain[0][0, 0, 0], [0, 1e-4, 0.01, 0.1, 1.5, 0], atol=1e-7)
    dbz = np.broadcast_to(np.array([-np.inf, 23.0103, 39.0103], np.float32), (4, 2, 3))
    path = write.npz(tmp_path / "b.npz", write.times_of(4), reflectivity=dbz)
    rain = open_dataset("radar", path, quantity="rain_rate", **ALL)
    np.testing.assert_allclose(rain.physical(rain[0])[0, 0, 0], [0, 1, 10], atol=1e-4)


def test_sevir_events_are_apart(tmp_path, write):
    vil = np.zeros((2, 4, 4, 7)) + np.arange(7) + 10 * np.arange(2)[:, None, None, None]
    start = np.datetime64("2019-03-01T12:00:00")
    # The second event begins before the first is over.
    write.sevir(tmp_path, [start, start + np.timedelta64(20, "m")], vil)
    dataset = open_dataset("radar", tmp_path, **ALL)
    assert (len(dataset), dataset.unit, dataset.channels) == (8, "level", ("vil",))
    assert dataset.thresholds == (16, 74, 133, 160, 181, 219)
    np.testing.assert_allclose(dataset.physical(dataset[5])[:, 0, 0, 0], [11, 12, 13, 14], atol=1e-4)
    assert dataset.label(5) == "S700001, 2019-03-01 12:25:00"
    with pytest.raises(UserError, match="holds vil, of which no reflectivity can be made"):
        open_dataset("radar", tmp_path, quantity="reflectivity", **ALL)


def test_crop_and_coarser_pixels(archive, tmp_path, write):
    values = write.moving_echo(4)
    part = open_dataset("radar", archive(4), crop=(2, 3, 6, 8), **ALL)
    np.testing.assert_allclose(part.physical(part[0])[:, 0], values[:, 2:8, 3:11], atol=1e-3)
    dbz = np.full((4, 3, 5), 20, np.float32)
    dbz[:, 0, 1] = dbz[:, 1, 0] = dbz[:, 1, 1] = -np.inf
    dbz[:, 0, 2:4], dbz[:, 1, 3] = np.nan, np.nan
    path = write.npz(tmp_path / "a.npz", write.times_of(4), reflectivity=dbz)
    coarse = open_dataset("radar", path, coarsen=2, **ALL)
    assert coarse.grid == (1, 2)
    # A quarter of the reflectivity factor; three of four pixels were not measured.
    np.testing.assert_allclose(coarse.physical(coarse[0])[0, 0, 0, 0], 20 + 10 * np.log10(0.25), atol=1e-3)
    assert coarse.mask(0)[:, 0, 0].tolist() == [[False, True]] * 4
    for options in ({"crop": (0, 0, 13, 4)}, {"crop": (1, 2, 3)}, {"coarsen": 0}, {"coarsen": 13}):
        with pytest.raises(UserError, match="must be within 12 x 16 pixels"):
            open_dataset("radar", archive(4), **options, **ALL)


def test_tiles_are_sequences_of_their_own(archive, tmp_path, write):
    values = write.moving_echo(5)
    dataset = open_dataset("radar", archive(5), tile=6, **ALL)
    assert (len(dataset), dataset.grid) == (2 * 4, (6, 6))
    np.testing.assert_allclose(dataset.physical(dataset[7])[:, 0], values[1:5, 6:12, 6:12], atol=1e-3)
    assert dataset.label(7) == "2019-06-10 23:55:00, tile 6 6"
    assert dataset.label(-1) == dataset.label(7)
    values[:, :6] = np.nan
    path = write.npz(tmp_path / "half.npz", write.times_of(5), reflectivity=values)
    assert len(open_dataset("radar", path, tile=6, **ALL)) == 2 * 2
    with pytest.raises(UserError, match="tile must be at most the 12 x 16 pixels"):
        open_dataset("radar", path, tile=13, **ALL)


def squares_of(values, side):
    """Every square of the frames (T, height, width), in all eight attitudes."""
    height, width = values.shape[1:]
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            square = values[:, top : top + side, left : left + side]
            for quarters in range(4):
                turned = np.rot90(square, quarters, (1, 2))
                yield turned
                yield turned[..., ::-1]


def test_augmented_sequences_are_cut_and_turned_at_random(archive, write):
    options = {**SHORT, "shares": (1, 0, 0), "tile": 6}
    path = archive(4)
    plain = open_dataset("radar", path, "train", **options)
    dataset = open_dataset("radar", path, "train", augment=True, **options)
    assert len(dataset) == len(plain) == 4
    values = np.maximum(write.moving_echo(4), 0)
    seen = []
    for epoch in range(8):
        item = dataset[epoch, 1]
        assert torch.equal(item, dataset[epoch, 1])
        frames = np.where(dataset.mask((epoch, 1)).numpy(), np.nan, dataset.physical(item).numpy())[:, 0]
        assert any(np.allclose(frames, square, atol=1e-3, equal_nan=True) for square in squares_of(values, 6))
        seen.append(frames)
    assert len({frames.tobytes() for frames in seen}) > 4
    # What is judged on stays as it is.
    shares = {**options, "shares": (0, 0, 1)}
    judged = [
        open_dataset("radar", path, "test", augment=augment, **shares)[3, 1] for augment in (True, False)
    ]
    assert torch.equal(*judged)


def test_nothing_measured_and_a_frame_in_which_nothing_was(tmp_path, write):
    values = write.moving_echo(5)
    values[2] = np.nan
    path = write.npz(tmp_path / "one.npz", write.times_of(5), reflectivity=values)
    dataset = open_dataset("radar", path, **ALL)
    assert dataset.mask(0)[2].all()
    assert not dataset.mask(0)[1].all()
    assert (dataset[0][2] == 0).all()
    path = write.npz(tmp_path / "none.npz", write.times_of(5), reflectivity=np.full_like(values, np.nan))
    with pytest.raises(
        UserError, match="no pixel of the region was measured at 2019-06-10T23:50:00"
    ) as error:
        open_dataset("radar", path, **ALL)
    assert "\n" not in str(error.value)


def test_mistakes_are_named(archive, tmp_path, write):
    path = archive(8)
    for options, message in (
        ({"num_frames": 9}, "0 windows of 9 frames 5 min apart without a gap"),
        ({"stride": 0}, "stride and tile >= 1"),
        ({"time_step": 0}, "time_step must be > 0"),
        ({"zr": (200,)}, "zr must be two numbers"),
        ({"zr": (0, 1.6)}, "must be > 0"),
        ({"quantity": "snow"}, r"quantity is .*'snow'"),
        ({"quantity": "vil"}, "holds reflectivity, of which no vil"),
        ({"shares": (0.5, 0.4, 0.4)}, "sum to 1"),
        ({"test_from": "2019-06-11"}, "both validation_from and test_from"),
        ({"validation_from": "noon", "test_from": "2019-06-11"}, "validation_from must be a time such as"),
        ({"validation_from": "2019-06-12", "test_from": "2019-06-11"}, "must not be later"),
        ({"thresold": 30}, "no option 'thresold'"),
    ):
        with pytest.raises(UserError, match=message):
            open_dataset("radar", path, **{**ALL, **options})
    write.npz(path / "twice.npz", write.times_of(1), reflectivity=write.moving_echo(1))
    with pytest.raises(UserError, match="both hold a frame of 2019-06-10T23:50:00"):
        open_dataset("radar", path, **ALL)
    single = write.pgm(tmp_path / "a.pgm", np.datetime64("2019-06-10T00:00:00"), np.zeros((2, 3)))
    with pytest.raises(UserError, match="one frame does not make a sequence"):
        open_dataset("radar", single, **ALL)


def test_frames_are_read_once_and_memory_is_bounded():
    asked = []

    def read(keys):
        def reading(places):
            asked.append([keys[place] for place in places])
            return [np.full(4, keys[place], np.float32) for place in places]

        return reading

    cache = FrameCache(most_bytes=5 * 16)
    for keys in ([0, 1, 2], [1, 2, 3], [2, 3, 4], [5], [1], [0]):
        found = cache.get(keys, read(keys))
        assert [int(frame[0]) for frame in found] == keys
        assert sum(frame.nbytes for frame in cache._frames.values()) <= 5 * 16
    # Frame 0 was dropped for 5, the one that was asked for last longest ago.
    assert asked == [[0, 1, 2], [3], [4], [5], [0]]
    keys = list(range(10, 18))
    assert len(cache.get(keys, read(keys))) == 8


def test_workers_get_a_copy(archive):
    dataset = open_dataset("radar", archive(8), **ALL)
    again = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(again[3], dataset[3])


def test_files_are_known_and_checked(archive_kind, tmp_path, write):
    folder = write.archive(archive_kind, tmp_path / "a" / "b", write.times_of(6), write.moving_echo(6))
    path = next(folder.iterdir())
    assert commands.kind_of(tmp_path / "a") == commands.kind_of(folder) == commands.kind_of(path) == "radar"
    options = {"num_frames": 2, "input_length": 1, "shares": (0.34, 0.33, 0.33)}
    report = commands.check(folder, **options)
    assert report.ok, report.text()
    assert "test: 1 sequences of 1 + 1 frames, 12 x 16, reflectivity [dBZ]" in report.text()
    assert "6.25 % missing" in report.text()
    path.write_bytes(path.read_bytes()[:40])
    report = commands.check(folder, **options)
    assert not report.ok
    assert path.name in report.problems[0]


@pytest.mark.parametrize("quantity", ["reflectivity", "rain_rate"])
def test_pixels_at_a_threshold_are_events_after_scaling_and_back(quantity, tmp_path, write):
    at = np.array(THRESHOLDS[quantity], np.float32)
    frames = np.broadcast_to(at, (4, 1, len(at)))
    path = write.npz(tmp_path / "a.npz", write.times_of(4), **{quantity: frames})
    dataset = open_dataset("radar", path, quantity=quantity, **ALL)
    assert (dataset.physical(dataset[0]).numpy() >= dataset.thresholds).all()
