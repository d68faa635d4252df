"""The made-up data of the gallery open as the public files that they stand for."""

import pytest

from mim3d.data.datasets import commands, open_dataset


@pytest.fixture(scope="module")
def made_up(script):
    return script("made_up_data")


def test_taxis(made_up, tmp_path):
    made_up.write_taxibj(tmp_path, days=20, side=8)
    options = {"test_windows": 96, "validation_days": 4}
    assert commands.check(tmp_path, **options).ok
    test = open_dataset("taxibj", tmp_path, **options)
    # The tenth day lacks a half hour.
    assert len(test.times) == 19 * 48
    flows = test.physical(test[0])
    assert flows.shape == (8, 2, 8, 8)
    assert 0 <= flows.min() < flows.max() < 2000


def test_walkers(made_up, tmp_path):
    made_up.write_human36m(tmp_path, frames=25, side=32)
    assert commands.kind_of(tmp_path) == "human36m"
    for split, subjects in (("train", 4), ("validation", 1), ("test", 2)):
        sequences = open_dataset("human36m", tmp_path, split, size=16)
        # Of 25 files two sequences 10 files apart, or three 5 apart, by two cameras.
        assert len(sequences) == subjects * 2 * (2 if split == "train" else 3)
    assert (sequences[0][1:] - sequences[0][:-1]).abs().max() > 0.1
