"""TaxiBJ: flows of taxis into and out of 32 x 32 parts of Beijing, every half hour.

The data set of Zhang, Zheng & Qi (arXiv 1610.00081), on which MIM (arXiv 1811.07490) forecasts 4 frames
from 4. Either its raw files, one for every year, or the `dataset.npz` of OpenSTL (arXiv 2306.11249).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mim3d.data import npz
from mim3d.data.datasets.card import Appearance, Constructor, DatasetCard
from mim3d.data.files import existing
from mim3d.data.scaling import Scaling
from mim3d.data.sequences import Sequences, check_split
from mim3d.errors import UserError

CHANNELS = ("inflow", "outflow")
UNIT = "vehicles per half hour"
SLOTS = 48
"""Half hours of a day."""


@dataclass(frozen=True)
class Year:
    """One raw file: `flows` `(T, 2, height, width)` of the half hours that begin at `times`."""

    flows: np.ndarray
    times: np.ndarray


def read_year(path: str | Path) -> Year:
    """Read a raw file, days that lack a half hour left out.

    Parameters
    ----------
    path
        `BJ13_M32x32_T30_InOut.h5` or alike: `data` `(T, 2, height, width)`, the flows into and out of every
        part, and `date` `(T,)`, texts such as `2013070101`: a day and the number of its half hour, 1 to 48.

    Returns
    -------
    Year
        Flows as float32, below zero set to zero, in order of time.

    Raises
    ------
    UserError
        If the file is not there, is cut short, laid out otherwise, or has no whole day.
    """
    path = existing(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name in ("data", "date"):
                if not isinstance(file.get(name), h5py.Dataset):
                    raise UserError(f"{path} is not a raw TaxiBJ file: it holds no data set {name!r}")
            data, dates = file["data"], file["date"]
            assert isinstance(data, h5py.Dataset)
            assert isinstance(dates, h5py.Dataset)
            if data.ndim != 4 or data.shape[1] != 2 or data.dtype.kind not in "fiu":
                raise UserError(
                    f"{path}: data must be numbers (T, 2, height, width), found {data.dtype} {data.shape}"
                )
            if dates.shape != data.shape[:1] or dates.dtype.kind not in "SO":
                raise UserError(f"{path}: date must be {len(data)} texts, found {dates.dtype} {dates.shape}")
            flows = np.asarray(data, dtype=np.float32)
            stamps = [_text(stamp) for stamp in dates[()]]
    except OSError as error:
        raise UserError(f"{path} is not HDF5, is cut short, or is damaged: {error}") from error
    times = np.array([_time(stamp, row, path) for row, stamp in enumerate(stamps)])
    rows = _whole_days(times)
    if not len(rows):
        raise UserError(f"{path} has no day with all {SLOTS} half hours")
    flows, times = flows[rows], times[rows]
    if not np.isfinite(flows).all():
        row = int(np.argmax(~np.isfinite(flows).all(axis=(1, 2, 3))))
        raise UserError(f"{path}: the flows of {times[row]} hold NaN or infinity")
    return Year(np.maximum(flows, 0), times)


def _text(stamp: Any) -> str:
    return stamp.decode("ascii", "replace") if isinstance(stamp, bytes) else str(stamp)


def _time(stamp: str, row: int, path: Path) -> np.datetime64:
    """Return when a half hour begins."""
    try:
        if len(stamp) != 10 or not stamp.isascii() or not stamp.isdigit():
            raise ValueError
        day = np.datetime64(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}", "m")
        slot = int(stamp[8:])
        if not 1 <= slot <= SLOTS:
            raise ValueError
    except ValueError:
        raise UserError(
            f"{path}: date {row} is {stamp!r}; it must be YYYYMMDD and the half hour, 01 to {SLOTS}"
        ) from None
    return day + np.timedelta64(30 * (slot - 1), "m")


def _whole_days(times: np.ndarray) -> np.ndarray:
    """Return the rows, in order of time, of the days that have every half hour once."""
    days, first, counts = np.unique(times.astype("M8[D]"), return_index=True, return_counts=True)
    rows = []
    for day, start, count in zip(days, first, counts, strict=True):
        own = np.flatnonzero(times.astype("M8[D]") == day) if count == SLOTS else np.arange(start, start)
        if len(np.unique(times[own])) == SLOTS:
            rows.append(own[np.argsort(times[own])])
    return np.concatenate(rows) if rows else np.arange(0)


class TaxiBJ(Sequences):
    """Windows of consecutive half hours of the raw files.

    Parameters
    ----------
    source
        The folder of the files (`BJ*_InOut.h5`), or one of them.
    split
        `"test"`: the last `test_windows` windows. `"validation"`: the windows of the `validation_days` days
        before them. `"train"`: all earlier ones. No frame is in windows of two splits.
    input_length, num_frames
        Frames given, and frames of a window.
    test_windows
        1344, four weeks, as in MIM.
    validation_days
        Whole days. With 0 training has, but for the few windows that reach into the test, those of MIM.

    Raises
    ------
    UserError
        If the files are not usable, or too few for the division.

    Notes
    -----
    Items are flows divided by the range of the training frames, (x - lowest) / (highest - lowest), which may
    exceed 1 elsewhere; `physical` gives vehicles per half hour.
    """

    def __init__(
        self,
        source: str | Path,
        split: str = "test",
        *,
        input_length: int = 4,
        num_frames: int = 8,
        test_windows: int = 1344,
        validation_days: int = 28,
    ) -> None:
        check_split(split)
        if test_windows < 1 or validation_days < 0 or num_frames < 2:
            raise UserError(
                "test_windows must be >= 1, validation_days >= 0 and num_frames >= 2, found "
                f"{test_windows}, {validation_days} and {num_frames}"
            )
        years = sorted((read_year(path) for path in _files(Path(source))), key=lambda year: year.times[0])
        self.times = np.concatenate([year.times for year in years])
        if (np.diff(self.times) <= np.timedelta64(0)).any():
            row = int(np.argmax(np.diff(self.times) <= np.timedelta64(0)))
            raise UserError(
                f"two files of {source} hold {self.times[row + 1]}; each may hold its own days only"
            )
        grids = {year.flows.shape[2:] for year in years}
        if len(grids) > 1:
            raise UserError(f"the files of {source} differ in their grids: {sorted(grids)}")
        self.flows = np.concatenate([year.flows for year in years])
        starts = _consecutive(self.times, num_frames)
        divided = self._divide(starts, num_frames, test_windows, validation_days)
        self.starts = divided[split]
        if not len(self.starts):
            raise UserError(
                f"{len(starts)} windows of {num_frames} half hours are too few: none is left for {split} "
                f"beside {test_windows} for test and {validation_days} days for validation"
            )
        training = self.flows[np.unique(divided["train"][:, None] + np.arange(num_frames))]
        if not len(training):
            raise UserError("no frame is left to train on; lower test_windows or validation_days")
        low, high = float(training.min()), float(training.max())
        if not high > low:
            raise UserError(f"the flows of {source} never change; there is nothing to scale by")
        super().__init__(
            name="taxibj",
            channels=CHANNELS,
            grid=self.flows.shape[2:],
            num_frames=num_frames,
            input_length=input_length,
            split=split,
            unit=UNIT,
            scaling=range_scaling(CHANNELS, low, high),
            time_step=0.5,
            time_unit="h",
        )

    def _divide(
        self, starts: np.ndarray, num_frames: int, test_windows: int, validation_days: int
    ) -> dict[str, np.ndarray]:
        """Divide the windows by time, leaving out those that reach into a later split."""
        test = starts[-test_windows:] if len(starts) > test_windows else starts[:0]
        end = int(test[0]) if len(test) else 0
        earlier = starts[starts + num_frames <= end]
        # Days that were left out do not count.
        border = max(end - validation_days * SLOTS, 0)
        return {
            "train": earlier[earlier + num_frames <= border],
            "validation": earlier[earlier >= border],
            "test": test,
        }

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.starts)

    def sequence(self, number: int) -> np.ndarray:
        """Return one window `(T, 2, height, width)`, scaled, forward in time."""
        start = self.starts[number]
        return self.scaling.forward(self.flows[start : start + self.num_frames], num_axes=2).astype(
            np.float32
        )

    def label(self, index: int) -> str:
        """Return when the first frame of a window begins."""
        return str(self.times[self.starts[index]]).replace("T", " ")


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"no folder {source}: give the one that holds BJ13_M32x32_T30_InOut.h5 and its kin")
    paths = sorted(source.glob("BJ*InOut.h5"))
    if not paths:
        raise UserError(f"{source} holds no files BJ*InOut.h5, such as BJ13_M32x32_T30_InOut.h5")
    return paths


def _consecutive(times: np.ndarray, num_frames: int) -> np.ndarray:
    """Return the rows where a window without a gap begins."""
    # Differences are of whole half hours: a window as long as its half hours has them all.
    last = times[num_frames - 1 :]
    span = last - times[: len(last)]
    return np.flatnonzero(span == np.timedelta64(30 * (num_frames - 1), "m"))


def range_scaling(channels: tuple[str, ...], low: float, high: float) -> Scaling:
    """Return the scaling that takes `low` to 0 and `high` to 1."""
    count = len(channels)
    return Scaling(channels, ("linear",) * count, (low,) * count, (high - low,) * count)


class OpenSTLTaxiBJ(Sequences):
    """The windows of OpenSTL's `dataset.npz`.

    Parameters
    ----------
    source
        The file, or the folder that holds it. `X_train`, `Y_train`, `X_test`, `Y_test`, each
        `(N, 4, 2, height, width)` in [-1, 1]: given frames and frames to forecast.
    split
        Validation is taken from the end of the training windows.
    validation_windows
        How many; a tenth of the training windows where not given. As many windows as a window has frames are
        left out before them, so that no frame is in both.
    highest
        Flow that was scaled to 1 [vehicles per half hour], the lowest being 0. The file does not say; 1292 is
        the largest flow of the raw files. Where not given there are no scores in vehicles.

    Raises
    ------
    UserError
        If the file is not usable.
    """

    def __init__(
        self,
        source: str | Path,
        split: str = "test",
        *,
        validation_windows: int | None = None,
        highest: float | None = None,
    ) -> None:
        check_split(split)
        path = Path(source)
        path = path / "dataset.npz" if path.is_dir() else path
        part = "test" if split == "test" else "train"
        self.given, self.future = (npz.read_array(path, f"{name}_{part}") for name in "XY")
        for name, array in ((f"X_{part}", self.given), (f"Y_{part}", self.future)):
            if array.ndim != 5 or array.shape[2] != 2 or array.dtype.kind != "f" or 0 in array.shape:
                raise UserError(
                    f"{path}: {name} must be numbers (N, T, 2, height, width), found {array.dtype} "
                    f"{array.shape}"
                )
        if self.given.shape[:1] + self.given.shape[2:] != self.future.shape[:1] + self.future.shape[2:]:
            raise UserError(f"{path}: X_{part} is {self.given.shape}, Y_{part} {self.future.shape}")
        count, input_length = self.given.shape[:2]
        num_frames = input_length + self.future.shape[1]
        held_out = -(-count // 10) if validation_windows is None else validation_windows
        self.windows = {
            "train": range(max(count - held_out - num_frames, 0)) if held_out else range(count),
            "validation": range(max(count - held_out, 0), count),
            "test": range(count),
        }[split]
        if not len(self.windows):
            raise UserError(f"{path}: of {count} training windows none is left for {split}")
        if highest is not None and not highest > 0:
            raise UserError(f"highest must be > 0 vehicles per half hour, found {highest}")
        super().__init__(
            name="taxibj",
            channels=CHANNELS,
            grid=self.given.shape[3:],
            num_frames=num_frames,
            input_length=input_length,
            split=split,
            unit=UNIT if highest else "",
            scaling=range_scaling(CHANNELS, 0, highest) if highest else None,
            time_step=0.5,
            time_unit="h",
        )

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    def sequence(self, number: int) -> np.ndarray:
        """Return one window `(T, 2, height, width)` in [0, 1]."""
        row = self.windows[number]
        frames = np.concatenate([self.given[row], self.future[row]]).astype(np.float32)
        return (frames + 1) / 2


def reader(path: Path) -> Constructor:
    """Tell raw files and OpenSTL's `dataset.npz` apart."""
    return OpenSTLTaxiBJ if path.suffix == ".npz" or (path / "dataset.npz").is_file() else TaxiBJ


CARD = DatasetCard(
    name="taxibj",
    summary="flows of taxis into and out of 32 x 32 parts of Beijing, every half hour",
    protocol=(
        "4 frames -> 4 frames (2 h); the last 1344 windows (four weeks) are the test, 28 days before them "
        "validation; MSE on scaled flows, and in vehicles per half hour"
    ),
    terms="Given by its authors for research; no licence is stated. Nothing of it comes with mim3d.",
    citation="Zhang, Zheng & Qi 2017, AAAI, arXiv:1610.00081; OpenSTL: arXiv:2306.11249",
    files=(
        "A folder with BJ13_M32x32_T30_InOut.h5 to BJ16_M32x32_T30_InOut.h5 (links in the DeepST repository "
        "of its authors), or OpenSTL's dataset.npz "
        "(taxibj_dataset.zip of the release v0.1.0 of its repository)."
    ),
    options=TaxiBJ,
    reader=reader,
    appearance=Appearance(colormap="inferno", label="flow"),
)
