"""Ctrl-C stops between steps, with the state on disk."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint as CheckpointCallback

from mim3d.training.checkpointing import LastState, between_steps


class Interrupted(BaseException):
    """The user stopped the training; its state is on disk."""


class StopBetweenSteps(CheckpointCallback):
    """Writes the state after the current step when the user presses Ctrl-C, then stops.

    An exception in the middle of a step would leave some weights moved and others not. A second Ctrl-C does
    not wait. Lightning calls what writes checkpoints last in every step; this must come after all of them.

    Parameters
    ----------
    last
        What writes the state.
    """

    def __init__(self, last: LastState) -> None:
        self.last = last
        self.asked = False
        self._before: Any = None
        self._installed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for Ctrl-C, where this is the thread that hears it."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
            self._installed = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if any process was asked to, and validation is not due."""
        if between_steps(trainer) and not self.last.validation_follows(trainer):
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if any process was asked to."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_if_asked(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop listening."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        self._restore()

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            self.last.save(trainer)
            raise Interrupted

    def _restore(self) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)
            self._installed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        _say("stopping after this step; press Ctrl-C again to stop at once")


@rank_zero_only
def _say(message: str) -> None:
    print(f"\n{message}", flush=True)
