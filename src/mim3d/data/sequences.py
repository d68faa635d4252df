"""What all image data sets have in common: numbered sequences of frames, and what their numbers mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Dataset

from mim3d.data.scaling import Scaling
from mim3d.data.splits import SPLITS
from mim3d.errors import UserError


class Sequences(Dataset[torch.Tensor], ABC):
    """Sequences of equal length, to train and to judge on.

    Item `i` is a `(T, C, *space)` float32 tensor whose first `input_length` frames are given and whose other
    frames are to be forecast. It is the same whenever it is asked for. Training may ask for `(epoch, i)`
    instead: data sets that can make any number of sequences then give another one in every epoch, the same
    for the same epoch; others give item `i`.

    A data set is a class with one method, `sequence`.

    Parameters
    ----------
    name
        Of the data set, for tables and pictures.
    channels
        A name for every channel.
    grid
        Pixels along every axis of space: `(height, width)`, or `(X, Y, Z)`.
    num_frames
        Frames of a sequence, input and future together.
    input_length
        Frames that are given.
    split
        `"train"`, `"validation"` or `"test"`.
    unit
        Unit of the physical values that `physical` gives, `""` for plain numbers.
    scaling
        How items were made from physical values; none where items are the values.
    value_range
        Lowest and highest number that an item is meant to have: the ends of its colour scale.
    time_step, time_unit
        Time between two frames.
    thresholds
        Values in `unit` from which on a pixel is an event whose forecast is scored (see
        `mim3d.metrics.EventScores`); none where that is not the custom.

    Attributes
    ----------
    dataset
        Name by which it was opened, which says how it is drawn; a file may have a `name` of its own.
    missing_value
        What items have where nothing was measured.

    Raises
    ------
    UserError
        If there is nothing to forecast, or the split is not known.
    """

    def __init__(
        self,
        *,
        name: str,
        channels: tuple[str, ...],
        grid: tuple[int, ...],
        num_frames: int,
        input_length: int,
        split: str,
        unit: str = "",
        scaling: Scaling | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        time_step: float = 1.0,
        time_unit: str = "frame",
        thresholds: tuple[float, ...] = (),
    ) -> None:
        check_split(split)
        if not 1 <= input_length < num_frames:
            raise UserError(
                f"input_length must be from 1 to {num_frames - 1} in sequences of {num_frames} frames, "
                f"found {input_length}"
            )
        self.name = name
        self.dataset = name
        self.channels = channels
        self.grid = grid
        self.num_frames = num_frames
        self.input_length = input_length
        self.split = split
        self.unit = unit
        self.scaling = scaling or Scaling.identity(channels)
        self.value_range = value_range
        self.time_step = time_step
        self.time_unit = time_unit
        self.thresholds = thresholds
        self.missing_value = 0.0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of sequences."""

    @abstractmethod
    def sequence(self, number: int) -> np.ndarray:
        """Return one sequence `(T, C, *space)` float32; `number` is from 0 to the last.

        Pixels that were not measured are NaN.
        """

    def number(self, epoch: int, index: int) -> int:
        """Return which sequence item `index` of an epoch is."""
        return index

    def label(self, index: int) -> str:
        """Return what to call a sequence in tables and pictures."""
        return f"{self.split} {index}"

    def __getitem__(self, index: int | tuple[int, int]) -> torch.Tensor:
        """Return item `index`, or `(epoch, index)`.

        Pixels that were not measured are `missing_value`, 0 unless set otherwise; see `mask`.
        """
        return torch.from_numpy(np.nan_to_num(self._checked(index), nan=self.missing_value))

    def mask(self, index: int | tuple[int, int]) -> torch.Tensor:
        """Return `(T, C, *space)`, True where a pixel was not measured."""
        return torch.from_numpy(np.isnan(self._checked(index)))

    def _checked(self, index: int | tuple[int, int]) -> np.ndarray:
        epoch, place = index if isinstance(index, tuple) else (0, int(index))
        if not -len(self) <= place < len(self):
            raise IndexError(f"sequence {place} of {len(self)}")
        frames = self.sequence(self.number(epoch, place % len(self)))
        if frames.shape != self.shape or frames.dtype != np.float32:
            raise UserError(
                f"{self.name}: sequence {place} is {frames.dtype} {frames.shape}, "
                f"it should be float32 {self.shape} (T, C, *space)"
            )
        return frames

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[index] for index in range(len(self)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an item, `(T, C, *space)`."""
        return (self.num_frames, len(self.channels), *self.grid)

    def physical(self, frames: torch.Tensor) -> torch.Tensor:
        """Return frames `(..., C, *space)` of items or forecasts in `unit`."""
        return self.scaling.inverse(frames, num_axes=len(self.grid))


def check_split(split: str) -> None:
    """Check the name of a split.

    Raises
    ------
    UserError
        If it is none.
    """
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
