"""What a training takes its frames from: simulated runs or a named data set of images, seen alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u

from mim3d.data import ClipDataset
from mim3d.data.datasets import open_dataset
from mim3d.data.derived import DERIVED
from mim3d.data.sequences import Sequences
from mim3d.training.recipe import Recipe

Frames = ClipDataset | Sequences
"""Clips of one split: item `(epoch, i)` is `(T, C, *space)`, scaled, NaN where nothing was measured."""


def open_frames(recipe: Recipe, split: str) -> Frames:
    """Open the clips of one split of a recipe's data.

    Raises
    ------
    UserError
        If the data are not there or do not fit the recipe.
    """
    data = recipe.data
    training = split == "train"
    if data.dataset:
        given = {"num_frames": data.frames, "input_length": data.input_length}
        options = {**{name: value for name, value in given.items() if value}, **data.options}
        sequences = open_dataset(data.dataset, data.folder or None, split, **options)
        sequences.missing_value = np.nan
        return sequences
    clips = ClipDataset(
        data.folder,
        [name for name in data.fields if name not in DERIVED],
        [name for name in data.fields if name in DERIVED],
        static=data.static,
        guided=recipe.is_guided,
        input_length=data.input_length,
        num_frames=data.frames,
        split=split,
        fractions=data.shares,
        augment=data.symmetries and training,
        window=data.window or None if training else None,
    )
    # The division of the runs stays the same whatever the seed of a training.
    clips.seed = recipe.training.seed
    return clips


def names(frames: Frames | None) -> list[str]:
    """Return the names of what is in a split, by which a resumed training knows it again."""
    if frames is None:
        return []
    if isinstance(frames, ClipDataset):
        return [run.name for run in frames.runs]
    return [f"{frames.name}, {len(frames)} sequences"]


def checkpoint_entries(frames: Frames, channels: Sequence[str]) -> dict[str, Any]:
    """Return what a checkpoint says of the frames that its network was trained on."""
    if isinstance(frames, ClipDataset):
        return {
            "grid": frames.grid,
            "box_size": _box_size(frames.box_size, frames.units["length"]),
            "time_step": frames.time_step,
            "units": {
                name: unit.to_string()
                for name, unit in frames.units.items()
                if name not in ("time", "length")
            },
        }
    return {
        "grid": frames.grid,
        "units": dict.fromkeys(channels, frames.unit),
        "dataset": {
            "name": frames.dataset,
            "time_step": frames.time_step,
            "time_unit": frames.time_unit,
            "value_range": list(frames.value_range),
        },
    }


def _box_size(sides: tuple[float, ...], unit: u.UnitBase) -> tuple[float, ...] | None:
    """Return the sides [pc]; nothing for boxes that have no length, such as images."""
    if not unit.is_equivalent(u.pc):
        return None
    return tuple(float(side) for side in np.atleast_1d(u.Quantity(sides, unit).to_value(u.pc)))
