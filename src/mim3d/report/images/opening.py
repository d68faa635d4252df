"""A data set as a model knows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mim3d.checkpoint import Checkpoint
from mim3d.data.datasets import card
from mim3d.data.sequences import Sequences

_OF_TRAINING = ("augment", "count")
"""Options of how much was trained on, which say nothing of what is to be forecast."""

_DIVISION = {"shares", "validation_from", "test_from"}
"""Options that divide the time: who gives one of them means another division."""


def open_as_trained(
    checkpoint: Checkpoint,
    name: str,
    source: str | Path | None = None,
    split: str = "test",
    *,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Sequences:
    """Open one split of a data set with the options that a model was trained with.

    So the test part holds nothing of the training part, and frames are as many and as large as the network
    expects.

    Parameters
    ----------
    checkpoint
        The model. Its options count where it was trained on this data set and the source has them.
    name, source, split, **options
        As for `mim3d.data.datasets.open_dataset`; these win over the model's.
    say
        Called with a line that names the model's options, where there are any.

    Raises
    ------
    UserError
        As `open_dataset` does.
    """
    own = _options_of(checkpoint, name, source)
    replaced = {*options, *(_DIVISION if _DIVISION & {*options} else ())}
    own = {key: value for key, value in own.items() if key not in replaced}
    if own:
        say(f"as in the model's training: {' '.join(f'{key}={_text(own[key])}' for key in sorted(own))}")
    return card(name).open(source, split, **own, **options)


def _options_of(checkpoint: Checkpoint, name: str, source: str | Path | None) -> dict[str, Any]:
    """Return the options of a model's training that a source takes and that are not the usual ones."""
    if checkpoint.dataset.get("name") != name:
        return {}
    usual = card(name).options_of(source)
    recipe = checkpoint.provenance.get("recipe", {})
    options = {
        **recipe.get("data", {}).get("options", {}),
        "input_length": checkpoint.input_length,
        "num_frames": checkpoint.num_frames,
    }
    return {
        key: value
        for key, value in options.items()
        if key in usual and key not in _OF_TRAINING and value not in (None, usual[key])
    }


def _text(value: Any) -> str:
    """Write a value as `--options` takes it."""
    return value if isinstance(value, str) else json.dumps(value)
