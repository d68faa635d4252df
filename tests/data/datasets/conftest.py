"""Small digits, for tests that need no real ones."""

from pathlib import Path

import numpy as np
import pytest

from mim3d.data.datasets import idx


def make_digits(count: int, seed: int = 0) -> np.ndarray:
    """Blobs of 28 x 28 pixels with an outline of their own, none equal to another."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 6:22, 8:20] = random.integers(1, 256, (count, 16, 12))
    return images


@pytest.fixture
def digits() -> np.ndarray:
    """Forty images."""
    return make_digits(40)


@pytest.fixture
def digit_folder(tmp_path: Path) -> Path:
    """A folder as MNIST's, one file compressed."""
    folder = tmp_path / "mnist"
    idx.write(folder / "train-images-idx3-ubyte.gz", make_digits(30, 1))
    idx.write(folder / "t10k-images-idx3-ubyte", make_digits(7, 2))
    return folder
