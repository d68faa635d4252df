"""Human3.6M: people who walk, sit, talk, filmed by four cameras, as frames of JPEG files.

The films of Ionescu, Papava, Olaru & Sminchisescu (2014, TPAMI 36, 1325), as frames of which every fifth of
50 a second is kept, in one flat folder: `S11_Walking_1.60457274_000471.jpg` is frame 471 of the subject S11
doing "Walking 1" before the camera 60457274.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from mim3d.data.datasets.card import DatasetCard
from mim3d.data.sequences import Sequences, check_split
from mim3d.data.splits import split_of
from mim3d.errors import UserError

SUBJECTS = {"train": ("S1", "S5", "S6", "S7"), "validation": ("S8",), "test": ("S9", "S11")}
"""Subjects of every split. MIM trains on S8 too."""

FRAME_STEP = 5
"""Frame numbers between files that follow each other."""

Protocol = Literal["mim", "openstl"]
_NAME = re.compile(
    r"(?P<video>(?P<subject>S\d+)_(?P<scenario>[^.]+)\.(?P<camera>\d+))_(?P<frame>\d{6})\.jpe?g"
)


@dataclass(frozen=True)
class FrameFile:
    """One file: frame `frame` of a video, which is a subject doing a scenario before a camera."""

    path: Path
    video: str
    subject: str
    scenario: str
    frame: int


def list_frames(folder: str | Path) -> list[FrameFile]:
    """List the frames of a folder, video after video, in order of time.

    Raises
    ------
    UserError
        If the folder is not there or holds no files named as above.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}: give the one that holds S1_Directions.54138969_000001.jpg and so on"
        )
    found = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            found.append(
                FrameFile(path, match["video"], match["subject"], match["scenario"], int(match["frame"]))
            )
    if not found:
        raise UserError(f"{folder} holds no files named like S11_Walking_1.60457274_000471.jpg")
    return sorted(found, key=lambda file: (file.video, file.frame))


def read_image(path: Path) -> np.ndarray:
    """Return a JPEG file as `(3, height, width)` uint8, red, green and blue.

    Raises
    ------
    UserError
        If it is not there, cut short, or no image.
    """
    try:
        with Image.open(path) as image:
            return np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not an image, or is cut short: {error}") from error


class Human36M(Sequences):
    """Sequences of people in motion, 4 frames given, 4 to forecast; files are read when they are asked for.

    Parameters
    ----------
    source
        `"mim"`: the folder of the JPEG files. `"openstl"`: the folder that holds `train.txt`, `test.txt` and
        the images that their lines name.
    split
        Part of the data.
    protocol
        `"mim"` (arXiv 1811.07490): Walking alone; test subjects S9 and S11; every second file of the folder
        (5 frames a second); the middle half of the image in height and width, as `size` x `size` pixels.
        `"openstl"` (arXiv 2306.11249): the sequences of its lists, all scenarios, files that follow each
        other (10 frames a second), whole images; validation is a tenth of the videos of `train.txt`.
    size
        Pixels of a frame's side; 128 (`"mim"`) and 256 (`"openstl"`) by default.
    subjects
        `"mim"`: the subjects of training, where not those of `SUBJECTS`; a split that shares one with them is
        refused. MIM's own training set is `("S1", "S5", "S6", "S7", "S8")`, which leaves no validation.
    scenario
        `"mim"`: what is done; `"Walking"` takes in `Walking_1`.

    Raises
    ------
    UserError
        If the folder or a list is not usable, or no sequence is in it.
    """

    def __init__(
        self,
        source: str | Path,
        split: str = "test",
        *,
        protocol: Protocol = "mim",
        size: int | None = None,
        subjects: Sequence[str] | None = None,
        scenario: str = "Walking",
    ) -> None:
        check_split(split)
        if protocol not in get_args(Protocol):
            raise UserError(f"protocol is {protocol!r}; it must be one of {', '.join(get_args(Protocol))}")
        if size is not None and size < 1:
            raise UserError(f"size must be at least 1 pixel, found {size}")
        self.protocol = protocol
        self.files: list[list[Path]]
        if protocol == "mim":
            self.files = _mim_sequences(Path(source), split, _subjects(split, subjects), scenario)
        else:
            self.files = _listed_sequences(Path(source), split)
        side = size or {"mim": 128, "openstl": 256}[protocol]
        super().__init__(
            name="human36m",
            channels=("red", "green", "blue"),
            grid=(side, side),
            num_frames=8,
            input_length=4,
            split=split,
            time_step=0.2 if protocol == "mim" else 0.1,
            time_unit="s",
        )

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.files)

    def label(self, index: int) -> str:
        """Return the name of the first file of a sequence."""
        return self.files[index][0].stem

    def sequence(self, number: int) -> np.ndarray:
        """Return one sequence `(8, 3, size, size)` in [0, 1]."""
        return np.stack([self._frame(path) for path in self.files[number]])

    def _frame(self, path: Path) -> np.ndarray:
        image = read_image(path)
        if self.protocol == "mim":
            height, width = image.shape[1:]
            image = image[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
        return resize(image, self.grid, "bilinear" if self.protocol == "mim" else "bicubic")


def resize(image: np.ndarray, grid: tuple[int, ...], mode: Literal["bilinear", "bicubic"]) -> np.ndarray:
    """Return an image `(C, height, width)` uint8 on another grid, float32 in [0, 1].

    Interpolated between the nearest pixels without smoothing first, as OpenCV does (which rounds to whole
    numbers of 255): scores on these data depend on it.
    """
    pixels = torch.from_numpy(image.astype(np.float32))[None]
    if tuple(image.shape[1:]) != grid:
        pixels = functional.interpolate(pixels, size=list(grid), mode=mode, align_corners=False)
    return (pixels[0].clamp(0, 255) / 255).numpy()


def _subjects(split: str, training: Sequence[str] | None) -> tuple[str, ...]:
    """Return who is in a split."""
    if training is None:
        return SUBJECTS[split]
    if split == "train":
        return tuple(training)
    if shared := [subject for subject in SUBJECTS[split] if subject in training]:
        raise UserError(
            f"subjects has {', '.join(shared)} in training, who cannot be in {split} as well"
            + ("; train with data.validation_clips=0" if split == "validation" else "")
        )
    return SUBJECTS[split]


def _mim_sequences(folder: Path, split: str, subjects: tuple[str, ...], scenario: str) -> list[list[Path]]:
    """Return the files of every sequence as MIM cuts them."""
    files = [
        file
        for file in list_frames(folder)
        if file.subject in subjects and file.scenario.split("_")[0] == scenario
    ]
    length, interval = 8, 2
    span = (length - 1) * interval
    step = 10 if split == "train" else 5
    sequences, first = [], 0
    while first + span < len(files):
        begin, end = files[first], files[first + span]
        if begin.video == end.video and end.frame - begin.frame == span * FRAME_STEP:
            sequences.append([file.path for file in files[first : first + span + 1 : interval]])
            first += step
        else:
            first += 1
    if not sequences:
        raise UserError(
            f"{folder} holds no sequence of {span + 1} files {FRAME_STEP} frames apart of {scenario} by "
            f"{', '.join(subjects)}"
        )
    return sequences


def _listed_sequences(folder: Path, split: str) -> list[list[Path]]:
    """Return the files of every sequence of OpenSTL's list."""
    path = folder / ("test.txt" if split == "test" else "train.txt")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"no file {path}, which the protocol 'openstl' needs") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a list of sequences: {error}") from error
    begins = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
            raise UserError(
                f"{path}, line {number}: {line[:80]!r} is not a prefix of file names, first and last frame, "
                "such as images/S1_Directions.54138969_,226,296"
            )
        prefix = parts[0]
        if Path(prefix).is_absolute() or ".." in Path(prefix).parts:
            raise UserError(f"{path}, line {number}: {prefix!r} leads out of the folder")
        begins.append((prefix, int(parts[1])))
    if split != "test" and begins:
        videos = sorted({prefix for prefix, _ in begins})
        part_of = dict(zip(videos, split_of(videos, (0.9, 0.1, 0.0)), strict=True))
        begins = [begin for begin in begins if part_of[begin[0]] == split]
    if not begins:
        raise UserError(f"{path} lists no sequence for {split}")
    return [
        [folder / f"{prefix}{begin + FRAME_STEP * k:06d}.jpg" for k in range(8)] for prefix, begin in begins
    ]


CARD = DatasetCard(
    name="human36m",
    summary="people in motion, filmed by four cameras, as folders of JPEG files",
    protocol=(
        "4 frames -> 4 frames; Walking, subjects S9 and S11 test, S8 validation, 128 x 128 RGB (MIM), or "
        "OpenSTL's lists at 256 x 256; MSE and MAE summed over a frame, PSNR, SSIM"
    ),
    terms="Human3.6M's own licence: academic use, on registration. Nothing of it comes with mim3d.",
    citation=(
        "Ionescu, Papava, Olaru & Sminchisescu 2014, TPAMI 36, 1325; protocols: MIM, arXiv:1811.07490, and "
        "OpenSTL, arXiv:2306.11249"
    ),
    files=(
        "A flat folder of JPEG files named like S11_Walking_1.60457274_000471.jpg, every fifth frame; with "
        "protocol=openstl the folder of its train.txt and test.txt. Films: vision.imar.ro/human3.6m, on "
        "registration."
    ),
    options=Human36M,
)
