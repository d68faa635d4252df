"""Windows of frames that follow each other in time, and their division by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np

from mim3d.data.datasets.radar.frames import RadarFrames
from mim3d.data.splits import SPLITS
from mim3d.errors import UserError

Moment = str | date
"""A time in ISO 8601, or as YAML gives it; UTC where it does not say its zone."""

TOLERANCE = 0.25
"""Share of a time step by which a frame may come too early or too late: MRMS comes some seconds off."""


@dataclass(frozen=True)
class Series:
    """All frames of one place in order of time: `times` `(N,)` and where each is found."""

    place: str
    times: np.ndarray
    frames: list[tuple[RadarFrames, int]]


def series_of(found: Sequence[RadarFrames]) -> list[Series]:
    """Gather the frames of every place.

    Raises
    ------
    UserError
        If two frames of a place are of the same time.
    """
    gathered: dict[str, list[tuple[np.datetime64, RadarFrames, int]]] = {}
    for frames in found:
        own = gathered.setdefault(frames.place, [])
        own += [(time, frames, row) for row, time in enumerate(frames.times)]
    result = []
    for place, entries in gathered.items():
        entries.sort(key=lambda entry: entry[0])
        for (time, first, _), (next_time, second, _) in pairwise(entries):
            if time == next_time:
                raise UserError(f"{first.path} and {second.path} both hold a frame of {time}; leave one out")
        times = np.array([time for time, _, _ in entries], dtype="M8[s]")
        result.append(Series(place, times, [(frames, row) for _, frames, row in entries]))
    return result


def usual_time_step(series: Sequence[Series]) -> float:
    """Return the most common time between two frames that follow each other [minutes], in whole minutes.

    Raises
    ------
    UserError
        If no place has two frames.
    """
    steps = np.concatenate([np.diff(one.times).astype(np.float64) / 60 for one in series])
    if not len(steps):
        raise UserError("one frame does not make a sequence; give a folder of frames that follow each other")
    minutes, counts = np.unique(np.maximum(np.rint(steps), 1), return_counts=True)
    return float(minutes[np.argmax(counts)])


def windows(times: np.ndarray, num_frames: int, time_step: float, stride: int) -> np.ndarray:
    """Return the rows of the frames of every window without a gap, `(n, num_frames)`.

    Parameters
    ----------
    times
        `(N,)` datetime64[s], ascending.
    num_frames
        Frames of a window.
    time_step
        Between two of its frames [minutes]. Frames in between are passed over.
    stride
        Rows, at least, from the start of a window to that of the next.
    """
    seconds = times.astype(np.float64)
    step = 60 * time_step
    wanted = seconds[:, None] + step * np.arange(num_frames)
    after = np.searchsorted(seconds, wanted).clip(1, max(len(seconds) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(seconds) - 1)
    nearest = np.where(wanted - seconds[before] <= seconds[after] - wanted, before, after)
    complete = (np.abs(seconds[nearest] - wanted) <= TOLERANCE * step).all(axis=1)
    chosen, next_start = [], 0
    for start in np.flatnonzero(complete):
        if start >= next_start:
            chosen.append(start)
            next_start = start + stride
    return nearest[np.array(chosen, dtype=np.int64)]


def borders(
    times: np.ndarray,
    shares: Sequence[float],
    validation_from: Moment | None,
    test_from: Moment | None,
) -> tuple[np.datetime64, np.datetime64]:
    """Return when validation and test begin.

    Parameters
    ----------
    times
        Of all frames.
    shares
        Of the moments with frames, in order of time, for training, validation and test.
    validation_from, test_from
        Times in place of shares: both or neither.

    Raises
    ------
    UserError
        If they are not usable.
    """
    if (validation_from is None) != (test_from is None):
        raise UserError("give both validation_from and test_from (the same, for no validation), or neither")
    if validation_from is not None and test_from is not None:
        first, second = _moment("validation_from", validation_from), _moment("test_from", test_from)
        if first > second:
            raise UserError(f"validation_from must not be later than test_from, found {first} and {second}")
        return first, second
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise UserError(
            f"shares of train, validation and test must be >= 0 and sum to 1, found {tuple(shares)}"
        )
    moments = np.unique(times)
    moments = np.append(moments, moments[-1] + np.timedelta64(1, "s"))
    first, second = (
        moments[round(share * (len(moments) - 1))] for share in (shares[0], shares[0] + shares[1])
    )
    return first, second


def _moment(name: str, value: Moment) -> np.datetime64:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise UserError(f"{name} must be a time such as 2019-06-10T00:40, found {value!r}") from error
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time, "s")


def split_of_window(times: np.ndarray, borders: tuple[np.datetime64, np.datetime64]) -> str | None:
    """Return the split of a window from the times of its frames; none where it is in two."""
    for name, start, end in zip(SPLITS, (None, *borders), (*borders, None), strict=True):
        if (start is None or times[0] >= start) and (end is None or times[-1] < end):
            return name
    return None
