"""The Lightning data module: clips in an order that follows from the seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from mim3d.data import ClipDataset, ClipSampler, Scaling
from mim3d.errors import UserError
from mim3d.training.frames import names, open_frames
from mim3d.training.recipe import DataRecipe, Recipe
from mim3d.trust import fit_guard


class ForecastDataModule(LightningDataModule):
    """Clips to train and validate on.

    Parameters
    ----------
    recipe
        What to read, and how much at a time.
    scaling
        Of all channels; fitted to the training runs where not given.

    Attributes
    ----------
    recipe
        The recipe, with what it leaves to the data filled in: `data.frames` and `data.input_length`.

    Raises
    ------
    UserError
        If there are no data, they do not fit together or the recipe.
    """

    def __init__(self, recipe: Recipe, scaling: Scaling | None = None) -> None:
        super().__init__()
        if not (recipe.data.folder or recipe.data.dataset):
            raise UserError("data.folder is not given: name the folder of the runs to train on")
        self.training = open_frames(recipe, "train")
        # Named data sets divide themselves; some by shares.
        shares = (
            recipe.data.options.get("shares", DataRecipe.shares)
            if recipe.data.dataset
            else recipe.data.shares
        )
        validates = shares[1] > 0
        self.validation = open_frames(recipe, "validation") if validates else None
        self.scaling = scaling
        if not isinstance(self.training, ClipDataset):
            self.scaling = self.training.scaling
            data = replace(
                recipe.data, frames=self.training.num_frames, input_length=self.training.input_length
            )
            recipe = replace(recipe, data=data)
        self.recipe = recipe

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that are forecast."""
        return self.training.channels[: len(self.training.channels) - len(self.static)]

    @property
    def static(self) -> tuple[str, ...]:
        """Names of the channels that are given, which follow."""
        return self.training.static_channels if isinstance(self.training, ClipDataset) else ()

    @property
    def run_names(self) -> dict[str, list[str]]:
        """Names of the runs that are trained and validated on."""
        return {"train": names(self.training), "validation": names(self.validation)}

    @cached_property
    def guard(self) -> dict[str, Any] | None:
        """What tells the gas of these runs from other gas, for the checkpoint; None without gas."""
        if not isinstance(self.training, ClipDataset):
            return None
        validation = self.validation.runs if isinstance(self.validation, ClipDataset) else ()
        known = (*self.channels, *self.static)
        guard = fit_guard(self.training.runs, validation, known, self.recipe.data.input_length)
        return None if guard is None else guard.to_dict()

    def setup(self, stage: str) -> None:
        """Fit the scaling, where it is not known, on one process for all."""
        if not isinstance(self.training, ClipDataset):
            return
        if self.scaling is None:
            trainer = self.trainer
            fitted = None
            if trainer is None or trainer.is_global_zero:
                fitted = self.training.fit_scaling().to_dict()
            if trainer is not None:
                fitted = trainer.strategy.broadcast(fitted)
            self.scaling = Scaling.from_dict(fitted)  # type: ignore[arg-type]
        for clips in (self.training, self.validation):
            if isinstance(clips, ClipDataset):
                clips.scaling = self.scaling
                if self.recipe.machine.cache:
                    clips.load(_watched)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return the batches from the current step to the last."""
        assert self.trainer is not None
        training = self.recipe.training
        stream = BatchStream(
            len(self.training),
            self.recipe.data.batch_size,
            steps=training.steps,
            start=self.trainer.global_step,
            seed=training.seed,
            parts=training.accumulate,
            repeats=2 if training.time_reversed else 1,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return _ResumableLoader(self.training, batch_sampler=stream, **self._loading())

    def val_dataloader(self) -> DataLoader[Tensor] | list[Any]:
        """Return every clip that is validated on once, shared out over the processes.

        Where there are more processes than clips, every process takes all: means stay what they are, and no
        process is left without a batch, which Lightning does not allow.
        """
        assert self.trainer is not None
        if self.validation is None:
            return []
        size = max(
            1, self.recipe.data.batch_size // self.recipe.training.accumulate // self.trainer.world_size
        )
        count = len(self.validation)
        limit = self.recipe.data.validation_clips or count
        clips = np.unique(np.linspace(0, count - 1, min(limit, count)).astype(int)).tolist()
        own = clips[self.trainer.global_rank :: self.trainer.world_size]
        if len(clips) < self.trainer.world_size:
            own = clips
        batches = [own[first : first + size] for first in range(0, len(own), size)]
        return DataLoader(self.validation, batch_sampler=batches, **self._loading())

    def _loading(self) -> dict[str, Any]:
        workers = self.recipe.machine.workers
        return {
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the scaling and the runs, which a resumed training must find again."""
        assert self.scaling is not None
        return {"scaling": self.scaling.to_dict(), "runs": self.run_names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the runs are still the same.

        Raises
        ------
        UserError
            If they are not: the order of the data would be another.
        """
        check_runs(state_dict["runs"], self.run_names)


def check_runs(before: dict[str, list[str]], now: dict[str, list[str]]) -> None:
    """Check that a training is resumed with the runs that it began with.

    Raises
    ------
    UserError
        If it is not.
    """
    for part in before:
        if gone := set(before[part]) - set(now[part]):
            raise UserError(f"cannot resume: the {part} run {min(gone)} is no longer in the data folder")
        if new := set(now[part]) - set(before[part]):
            raise UserError(f"cannot resume: the {part} run {min(new)} was not there when the training began")


def _watched(numbers: range) -> Iterable[int]:
    """Show how many clips are read, where somebody watches."""
    console = Console(stderr=True)
    return track(numbers, "Reading clips", transient=True, console=console, disable=not console.is_terminal)


class BatchStream(Sampler[list[tuple[int, int]]]):
    """Clips of every batch of a whole training, as a function of the seed and the step alone.

    All clips in a random order, then all in another, and so on; batches go across the seams. A batch is cut
    into equal parts, first those that one process takes one after the other, then the processes; so what all
    processes take together in a step does not depend on how many there are.

    Parameters
    ----------
    num_clips
        Clips in all.
    batch_size
        Clips of a step, over all processes.
    steps
        Steps of the training.
    start
        Step to go on from.
    seed
        Of the order.
    parts
        Parts that a process takes one after the other in a step.
    repeats
        Steps that take the same clips.
    rank, world_size
        This process, and their number.

    Raises
    ------
    UserError
        If a batch cannot be cut into equal parts.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        *,
        steps: int,
        start: int = 0,
        seed: int = 0,
        parts: int = 1,
        repeats: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % (parts * world_size):
            raise UserError(
                f"data.batch_size {batch_size} cannot be shared equally by {world_size} processes with "
                f"training.accumulate {parts}"
            )
        self.clips = ClipSampler(num_clips, seed=seed)
        self.batch_size = batch_size
        self.steps = steps
        self.start = start
        self.parts = parts
        self.repeats = repeats
        self.rank = rank
        self.world_size = world_size

    def batch(self, step: int) -> list[tuple[int, int]]:
        """Return `(epoch, clip)` of every clip of a step, over all processes."""
        first = step // self.repeats * self.batch_size
        places = [divmod(place, self.clips.num_clips) for place in range(first, first + self.batch_size)]
        orders = {epoch: self.clips.order(epoch) for epoch in {epoch for epoch, _ in places}}
        return [(epoch, int(orders[epoch][place])) for epoch, place in places]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self.batch_size // (self.parts * self.world_size)
        for step in range(self.start, self.steps):
            batch = self.batch(step)
            for part in range(self.parts):
                first = (part * self.world_size + self.rank) * size
                yield batch[first : first + size]

    def __len__(self) -> int:
        """Return the number of batches of the whole training, those taken before `start` too.

        Lightning counts from the beginning when it resumes.
        """
        return self.steps * self.parts


class _ResumableLoader(DataLoader[Tensor]):
    """Tells Lightning that the loader goes on where it stopped: its stream starts at the trainer's step."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
