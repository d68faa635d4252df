"""Runs are divided once and for all."""

from collections import Counter

import pytest

from mim3d.data import split_of
from mim3d.errors import UserError

NAMES = [f"run_{number:04d}.h5#0" for number in range(1000)]


def test_shares_are_about_as_asked():
    counts = Counter(split_of(NAMES, (0.7, 0.2, 0.1)))
    assert 640 < counts["train"] < 760
    assert 150 < counts["validation"] < 250
    assert 65 < counts["test"] < 135


def test_runs_added_later_leave_the_others_in_their_parts():
    few, many = split_of(NAMES[:200]), split_of(NAMES)
    assert few == many[:200]
    assert split_of(NAMES[::-1])[::-1] == many


def test_the_seed_makes_another_division_and_nothing_else_does():
    assert split_of(NAMES, seed=1) != split_of(NAMES, seed=0)
    assert split_of(NAMES[:8], seed=3) == split_of(NAMES[:8], seed=3)
    # The division of a set on disk must not change from one release to the next.
    assert [NAMES.index(name) for name, part in zip(NAMES, split_of(NAMES), strict=True) if part == "test"][
        :4
    ] == FIRST_TESTS


FIRST_TESTS = [6, 10, 19, 32]


@pytest.mark.parametrize("count", range(3, 30))
def test_no_part_is_empty_however_few_the_runs(count):
    for seed in range(20):
        assert set(split_of(NAMES[:count], seed=seed)) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("fractions", "parts"),
    [
        ((1, 0, 0), {"train"}),
        ((0, 0, 1), {"test"}),
        ((0.9, 0.1, 0), {"train", "validation"}),
        ((0, 0.1, 0.9), {"validation", "test"}),
    ],
)
def test_parts_that_are_not_wanted_stay_empty(fractions, parts):
    assert set(split_of(NAMES, fractions)) == parts


def test_misuse_is_named():
    with pytest.raises(UserError, match="sum to 1"):
        split_of(NAMES, (0.8, 0.1, 0.2))
    with pytest.raises(UserError, match="same name"):
        split_of(["a", "b", "b", "c"])
    with pytest.raises(UserError, match="2 runs cannot be divided into train, validation, test"):
        split_of(["a", "b"])
