"""Windows against a plain search, whatever frames are missing and however late frames come."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mim3d.data.datasets.radar.frames import RadarFrames
from mim3d.data.datasets.radar.windows import borders, series_of, split_of_window, usual_time_step, windows

START = np.datetime64("2024-02-28T23:00:00")


def moments(minutes, late):
    """Frames at some minutes, each some seconds late."""
    seconds = [60 * minute + delay for minute, delay in zip(sorted(minutes), late, strict=False)]
    return START + np.array(seconds, dtype="m8[s]")


LATE = st.lists(st.integers(-20, 20), min_size=60, max_size=60)


@settings(deadline=None, max_examples=80)
@given(
    st.sets(st.integers(0, 59), min_size=1),
    LATE,
    st.integers(2, 6),
    st.sampled_from([1.0, 2.0, 5.0]),
)
def test_windows_are_those_that_a_plain_search_finds(minutes, late, num_frames, step):
    times = moments(minutes, late)
    seconds = times.astype(np.int64)
    expected = []
    for first in seconds:
        rows = []
        for number in range(num_frames):
            away = np.abs(seconds - (first + 60 * step * number))
            if away.min() <= 15 * step:
                rows.append(int(away.argmin()))
        if len(rows) == num_frames:
            expected.append(rows)
    assert windows(times, num_frames, step, 1).tolist() == expected


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 59), min_size=8), st.floats(0, 1), st.floats(0, 1), st.integers(1, 5))
def test_no_frame_is_in_two_splits(minutes, one, other, stride):
    times = moments(minutes, [0] * 60)
    low, high = sorted((one, other))
    border = borders(times, (low, high - low, 1 - high), None, None)
    seen = {}
    for rows in windows(times, 3, 1, stride):
        assert np.diff(times[rows]).tolist() == [np.timedelta64(60, "s").item()] * 2
        split = split_of_window(times[rows], border)
        for row in rows if split else ():
            assert seen.setdefault(int(row), split) == split


def test_the_usual_time_step_is_the_most_common_one():
    times = START + np.array([0, 120, 241, 359, 480, 1200, 2400], dtype="m8[s]")

    def read(rows):
        raise AssertionError("no frame is needed")

    (series,) = series_of([RadarFrames(path=None, quantity="vil", times=times[::-1], grid=(1, 1), read=read)])
    np.testing.assert_array_equal(series.times, times)
    assert [row for _, row in series.frames] == [6, 5, 4, 3, 2, 1, 0]
    assert usual_time_step([series]) == 2
    assert windows(series.times, 3, 2, 1).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
