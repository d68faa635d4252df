"""Image data sets by name, one module each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mim3d.data.datasets import (
    color_moving_mnist,
    folder,
    human36m,
    moving_mnist,
    moving_mnist_3d,
    radar,
    taxibj,
)
from mim3d.data.datasets.card import DatasetCard as DatasetCard
from mim3d.data.sequences import Sequences as Sequences
from mim3d.errors import UserError

DATASETS: dict[str, DatasetCard] = {
    card.name: card
    for card in (
        moving_mnist.CARD,
        moving_mnist.FASHION_CARD,
        color_moving_mnist.CARD,
        moving_mnist_3d.CARD,
        taxibj.CARD,
        radar.CARD,
        human36m.CARD,
        folder.CARD,
    )
}
"""The data sets that can be opened by name."""


def card(name: str) -> DatasetCard:
    """Return the card of a data set.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name]


def open_dataset(
    name: str, source: str | Path | None = None, split: str = "test", **options: Any
) -> Sequences:
    """Open one split of a data set by name, see `DatasetCard.open`.

    Raises
    ------
    UserError
        If there is none of that name, its files are not usable, or an option is not known.
    """
    return card(name).open(source, split, **options)


__all__ = ["DATASETS", "DatasetCard", "Sequences", "card", "open_dataset"]
