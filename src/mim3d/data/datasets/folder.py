"""Your own data: a folder of recordings and a short YAML file, `dataset.yaml`, that says what they are.

A recording is a file, `.npy`, `.npz` or HDF5 (`.h5`, `.hdf5`), or a folder of PNG or JPEG images whose names
sort in order of time. Sequences are windows of recordings and never go from one into the next. Recordings may
lie in folders `train`, `validation` and `test`; otherwise whole recordings are divided by their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from mim3d.data import npy, npz
from mim3d.data.datasets.card import Appearance, DatasetCard
from mim3d.data.scaling import Scaling
from mim3d.data.sequences import Sequences, check_split
from mim3d.data.splits import SPLITS, split_of
from mim3d.errors import UserError

SETTINGS_FILE = "dataset.yaml"
_ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
_IMAGES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class FolderSettings:
    """What `dataset.yaml` may say; only `input_length` and `num_frames` must be given.

    Parameters
    ----------
    input_length, num_frames
        Frames that are given, and frames of a window.
    name
        Of the data set; the folder's name by default.
    channels
        A name for every channel; `channel_0`, ... by default.
    axes
        Order of the axes of an array: `N` sequences, `T` time, `C` channels, any other letters space. `N` and
        `C` may be left out.
    array
        Name of the array in npz and HDF5 files (`group/name`).
    stride
        Frames from the start of a window to that of the next; `num_frames` by default, so that none overlap.
    interval
        Take every so-many-th frame of a recording.
    value_range
        Lowest and highest physical value, scaled to 0 and 1. Images are 0 to 255 by default; arrays are not
        scaled by default.
    missing
        Value of pixels that were not measured; NaN always is one.
    unit
        Unit of the physical values.
    time_step, time_unit
        Time between frames of a window.
    shares
        Of training, validation and test, where there are no folders of these names.
    terms, citation
        Licence, and what to cite.
    """

    input_length: int
    num_frames: int
    name: str = ""
    channels: tuple[str, ...] = ()
    axes: str = "TCYX"
    array: str = "frames"
    stride: int = 0
    interval: int = 1
    value_range: tuple[float, float] | None = None
    missing: float | None = None
    unit: str = ""
    time_step: float = 1.0
    time_unit: str = "frame"
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    terms: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        """Check what types alone do not say."""
        if not 1 <= self.input_length < self.num_frames:
            raise UserError(
                f"input_length must be from 1 to num_frames - 1 = {self.num_frames - 1}, "
                f"found {self.input_length}"
            )
        if self.stride < 0 or self.interval < 1 or not self.time_step > 0:
            raise UserError("stride must be >= 0, interval >= 1 and time_step > 0")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise UserError(f"value_range must be lowest < highest, found {self.value_range}")
        space = [letter for letter in self.axes if letter not in "NTC"]
        if len(set(self.axes)) != len(self.axes) or "T" not in self.axes or not 1 <= len(space) <= 3:
            raise UserError(
                f"axes is {self.axes!r}; it needs T once, 1 to 3 letters for space, and N and C at most once"
            )


def read_settings(path: str | Path) -> FolderSettings:
    """Read a `dataset.yaml`.

    Raises
    ------
    UserError
        If it is not there, is no YAML, or has a key that is not known or a value of the wrong type.
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"no file {path}, which says what the recordings are (see docs/data/folder.md)"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must be lines of 'key: value', at least input_length and num_frames")
    known = {field.name: field for field in fields(FolderSettings)}
    for name in values:
        if name not in known:
            raise UserError(f"{path}: there is no key {name!r}; there are: {', '.join(known)}")
    for name in ("input_length", "num_frames"):
        if name not in values:
            raise UserError(f"{path} does not say {name}")
    try:
        checked = {name: _typed(name, value) for name, value in values.items() if value is not None}
        return FolderSettings(**checked)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


_WHOLE = ("input_length", "num_frames", "stride", "interval")
_NUMBERS = ("missing", "time_step")
_LISTS = {"value_range": 2, "shares": 3}


def _typed(name: str, value: Any) -> Any:
    """Return a value of the type that its key has."""
    if name in _WHOLE:
        return _of(name, value, int, "a whole number")
    if name in _NUMBERS:
        return float(_of(name, value, int | float, "a number"))
    if name == "channels":
        names = _of(name, value, list, "a list of names")
        return tuple(_of("a channel", channel, str, "a name") for channel in names)
    if name in _LISTS:
        count = _LISTS[name]
        numbers = _of(name, value, list, f"a list of {count} numbers")
        if len(numbers) != count:
            raise UserError(f"{name} must be a list of {count} numbers, found {len(numbers)}")
        return tuple(
            float(_of(name, number, int | float, f"a list of {count} numbers")) for number in numbers
        )
    return _of(name, value, str, "a text")


def _of(name: str, value: Any, kind: Any, wanted: str) -> Any:
    # In Python True and False are whole numbers; in a file they are a mistake.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(f"{name} must be {wanted}, found {value!r}")
    return value


class Recording:
    """One array or folder of images, read frame by frame as it is asked for.

    Attributes
    ----------
    count
        Sequences in it (more than 1 only with an axis N).
    length
        Frames.
    """

    def __init__(self, path: Path, settings: FolderSettings) -> None:
        self.path = path
        self.settings = settings
        self.images: list[Path] = []
        if path.is_dir():
            self.images = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)
            self.count, self.length = 1, len(self.images)
            first = _read_image(self.images[0])
            self.frame_shape = first.shape
            return
        shape, axes = self._open()[0], settings.axes
        if len(shape) != len(axes):
            raise UserError(f"{path} has the shape {shape}, dataset.yaml says its axes are {axes}")
        sizes = dict(zip(axes, shape, strict=True))
        self.count, self.length = sizes.get("N", 1), sizes["T"]
        self.frame_shape = (sizes.get("C", 1), *(sizes[letter] for letter in axes if letter not in "NTC"))

    def _open(self) -> tuple[tuple[int, ...], Any]:
        """Return the array's shape and something to index it with."""
        path, settings = self.path, self.settings
        if path.suffix == ".npz":
            array: Any = npz.read_array(path, settings.array)
        elif path.suffix == ".npy":
            array = npy.read(path)
        else:
            array = _HDF5Array(path, settings.array)
        if array.dtype.kind not in "fiub":
            raise UserError(f"{path} must hold numbers, found {array.dtype}")
        return tuple(array.shape), array

    def frames(self, sequence: int, times: range) -> np.ndarray:
        """Return some frames `(T, C, *space)` float32."""
        if self.images:
            frames = [_read_image(self.images[time]) for time in times]
            for time, frame in zip(times, frames, strict=True):
                if frame.shape != self.frame_shape:
                    raise UserError(
                        f"{self.images[time]} is {frame.shape} (C, height, width), the first image of its "
                        f"folder {self.frame_shape}"
                    )
            return np.stack(frames).astype(np.float32)
        axes = self.settings.axes
        array = self._open()[1]
        window = slice(times.start, times.stop, times.step)
        index = tuple({"N": sequence, "T": window}.get(letter, slice(None)) for letter in axes)
        values = np.asarray(array[index], dtype=np.float32)
        left = [letter for letter in axes if letter != "N"]
        space = [letter for letter in left if letter not in "TC"]
        if "C" not in left:
            return np.ascontiguousarray(values.transpose([left.index(x) for x in ("T", *space)])[:, None])
        return np.ascontiguousarray(values.transpose([left.index(x) for x in ("T", "C", *space)]))


class _HDF5Array:
    """A data set of an HDF5 file that is opened for every access: open files do not survive a fork."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        with self._file() as file:
            array = file.get(name)
            if not isinstance(array, h5py.Dataset):
                there: list[str] = []
                file.visit(there.append)
                raise UserError(
                    f"{path} holds no data set {name!r}; it holds: {', '.join(there[:8]) or 'nothing'}"
                )
            self.shape, self.dtype = array.shape, array.dtype

    def _file(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r", locking=False)
        except OSError as error:
            raise UserError(f"{self.path} is not HDF5, is cut short, or is damaged: {error}") from error

    def __getitem__(self, index: Any) -> np.ndarray:
        with self._file() as file:
            try:
                return file[self.name][index]  # pyright: ignore[reportIndexIssue, reportReturnType]
            except OSError as error:
                raise UserError(f"{self.path} is damaged: {error}") from error


def _read_image(path: Path) -> np.ndarray:
    """Return an image `(C, height, width)`: one channel, or red, green and blue."""
    try:
        with Image.open(path) as image:
            # 16-bit images keep their values; palettes and transparency become colours.
            gray = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
            pixels = np.asarray(
                image.convert("L") if image.mode == "1" else image if gray else image.convert("RGB")
            )
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not an image, or is cut short: {error}") from error
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def find_recordings(folder: Path) -> list[Path]:
    """List files of arrays, and folders of images, in a folder.

    Raises
    ------
    UserError
        If there are none.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if any(file.suffix.lower() in _IMAGES for file in path.iterdir()):
                found.append(path)
        elif path.suffix in _ARRAYS:
            found.append(path)
    if not found:
        raise UserError(
            f"{folder} holds no recordings: neither {', '.join(_ARRAYS)} files nor folders of "
            f"{', '.join(_IMAGES)} images"
        )
    return found


class FolderSequences(Sequences):
    """Windows of the recordings of a folder.

    Parameters
    ----------
    source
        The folder that holds `dataset.yaml`, see `FolderSettings`.
    split
        `"train"`, `"validation"` or `"test"`.

    Raises
    ------
    UserError
        If the folder, its `dataset.yaml` or a recording is not usable, or no window is in the split.
    """

    def __init__(self, source: str | Path, split: str = "test") -> None:
        check_split(split)
        folder = Path(source)
        if not folder.is_dir():
            raise UserError(f"no folder {folder}")
        settings = self.settings = read_settings(folder / SETTINGS_FILE)
        paths = _paths_of(folder, split, settings)
        self.recordings = [Recording(path, settings) for path in paths]
        shapes = {recording.frame_shape for recording in self.recordings}
        if len(shapes) > 1:
            raise UserError(
                f"the recordings of {folder} differ in their frames (C, *space): "
                f"{', '.join(map(str, sorted(shapes)))}"
            )
        span = (settings.num_frames - 1) * settings.interval + 1
        stride = settings.stride or span
        self.windows = [
            (recording, sequence, start)
            for recording in self.recordings
            for sequence in range(recording.count)
            for start in range(0, recording.length - span + 1, stride)
        ]
        if not self.windows:
            raise UserError(f"no recording of {folder} for {split} has the {span} frames of a window")
        channels, *grid = shapes.pop()
        names = settings.channels or tuple(f"channel_{number}" for number in range(channels))
        if len(names) != channels:
            raise UserError(
                f"{folder / SETTINGS_FILE} names {len(names)} channels, the recordings have {channels}"
            )
        value_range = settings.value_range
        if value_range is None and any(recording.images for recording in self.recordings):
            value_range = (0.0, 255.0)
        super().__init__(
            name=settings.name or folder.resolve().name,
            channels=names,
            grid=tuple(grid),
            num_frames=settings.num_frames,
            input_length=settings.input_length,
            split=split,
            unit=settings.unit,
            scaling=_scaling(names, value_range),
            time_step=settings.time_step,
            time_unit=settings.time_unit,
        )

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    def label(self, index: int) -> str:
        """Return the recording and the first frame of a window."""
        recording, sequence, start = self.windows[index]
        of_many = f", sequence {sequence}" if recording.count > 1 else ""
        return f"{recording.path.name}{of_many}, frame {start}"

    def sequence(self, number: int) -> np.ndarray:
        """Return one window `(T, C, *space)`, scaled; pixels that were not measured are NaN."""
        recording, sequence, start = self.windows[number]
        settings = self.settings
        frames = recording.frames(
            sequence,
            range(start, start + (settings.num_frames - 1) * settings.interval + 1, settings.interval),
        )
        if np.isinf(frames).any():
            raise UserError(f"{self.label(number)}: {recording.path} holds infinity")
        if settings.missing is not None:
            frames = np.where(frames == np.float32(settings.missing), np.float32(np.nan), frames)
        return self.scaling.forward(frames, num_axes=len(self.grid)).astype(np.float32)


def _scaling(channels: Sequence[str], value_range: tuple[float, float] | None) -> Scaling | None:
    if value_range is None:
        return None
    (low, high), count = value_range, len(channels)
    return Scaling(tuple(channels), ("linear",) * count, (low,) * count, (high - low,) * count)


def _paths_of(folder: Path, split: str, settings: FolderSettings) -> list[Path]:
    """Return the recordings of a split."""
    if any((folder / name).is_dir() for name in SPLITS):
        if not (folder / split).is_dir():
            raise UserError(f"{folder} holds no folder {split!r}")
        return find_recordings(folder / split)
    paths = find_recordings(folder)
    parts = split_of([path.name for path in paths], settings.shares)
    chosen = [path for path, part in zip(paths, parts, strict=True) if part == split]
    if not chosen:
        raise UserError(f"no recording of {folder} is left for {split} with the shares {settings.shares}")
    return chosen


CARD = DatasetCard(
    name="folder",
    summary="your own data: a folder of npy, npz, HDF5 or image sequences and a short dataset.yaml",
    protocol="as dataset.yaml says; whole recordings are divided into training, validation and test",
    terms="as dataset.yaml says",
    citation="as dataset.yaml says",
    files="A folder with dataset.yaml and recordings: .npy, .npz, .h5 files, or folders of PNG or JPEG.",
    options=FolderSequences,
    appearance=Appearance(colormap="viridis"),
)
