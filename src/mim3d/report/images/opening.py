"""A data set as a model knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mim3d.checkpoint import Checkpoint
from mim3d.data.datasets import card
from mim3d.data.datasets.card import keyword_options
from mim3d.data.sequences import Sequences


def open_as_trained(
    checkpoint: Checkpoint, name: str, source: str | Path | None = None, split: str = "test", **options: Any
) -> Sequences:
    """Open one split of a data set, with as many frames given and to forecast as a model was trained with.

    Parameters
    ----------
    checkpoint
        The model. Its numbers of frames count where it was trained on this data set.
    name, source, split, **options
        As for `mim3d.data.datasets.open_dataset`; `num_frames` and `input_length` win over the model's.

    Raises
    ------
    UserError
        As `open_dataset` does.
    """
    usual = keyword_options(card(name).options)
    lengths: dict[str, Any] = {}
    if checkpoint.dataset.get("name") == name:
        lengths = {"num_frames": checkpoint.num_frames, "input_length": checkpoint.input_length}
    # Files of a fixed length take no such option: it is given where it changes something.
    changed = {k: v for k, v in lengths.items() if v is not None and usual.get(k, v) != v}
    return card(name).open(source, split, **{**changed, **options})
