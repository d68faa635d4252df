"""What a run leaves on disk: its exact state to resume from, and weights to forecast with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint as CheckpointCallback

from mim3d.data.files import replacing
from mim3d.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file in the same folder and then renames it; never unpickles objects.

    Lightning's own writer goes by way of the system's temporary folder; where that is another file system,
    the last move is a copy that a kill can cut short.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint that is either whole or not there."""
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors, numbers, strings and containers of them; anything else is refused."""
        return load_state(Path(path))


def load_state(path: Path) -> dict[str, Any]:
    """Read `last.ckpt`.

    Raises
    ------
    UserError
        If the file cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): to start anew, delete it or give another "
            "output folder"
        ) from error


class LastState(CheckpointCallback):
    """Writes the whole state of the training every few steps, where validation is due after it.

    Parameters
    ----------
    path
        The file.
    every
        Steps between writes.
    validate_every
        Steps between validations.
    steps
        Steps of the training; the state after the last one is written too.
    """

    def __init__(self, path: Path, every: int, validate_every: int | None, steps: int) -> None:
        self.path = path
        self.every = every
        self.validate_every = validate_every
        self.steps = steps
        self._saved = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time, unless validation follows: a resumed run would leave it out."""
        if not self.validation_follows(trainer):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write after validation, with the best score so far."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save_if_due(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the state. Every process must call this."""
        if self._saved != trainer.global_step:
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved = trainer.global_step

    def _save_if_due(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if between_steps(trainer) and (step % self.every == 0 or step == self.steps):
            self.save(trainer)

    def validation_follows(self, trainer: Trainer) -> bool:
        """Tell whether validation is due after this step."""
        return self.validate_every is not None and trainer.global_step % self.validate_every == 0


class BestWeights(CheckpointCallback):
    """Writes weights to forecast with whenever validation finds them better than all before.

    Parameters
    ----------
    write
        Called, on the first process only, with the score and the step.
    monitor
        Name of the logged score, smaller is better.
    """

    def __init__(self, write: Callable[[float, int], None], monitor: str = "val_score") -> None:
        self.write = write
        self.monitor = monitor
        self.best = float("inf")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write if the score is the best, or the first."""
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if score < self.best or self.best == float("inf"):
            self.best = score
            if trainer.is_global_zero:
                self.write(score, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score of the run that is resumed."""
        self.best = state_dict["best"]


def between_steps(trainer: Trainer) -> bool:
    """Tell whether the last batch ended a step, rather than being one of several that are accumulated."""
    return (trainer.fit_loop.epoch_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
