"""Ctrl-C, or a cluster that wants its machine back, stops between steps, with the state on disk."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint as CheckpointCallback

from mim3d.training.checkpointing import LastState, between_steps

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(BaseException):
    """The training was asked to stop by a signal; its state is on disk.

    Parameters
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopBetweenSteps(CheckpointCallback):
    """Writes the state after the current step when a signal asks to stop, then stops.

    SIGINT is Ctrl-C; SIGTERM and SIGUSR1 are what SLURM sends before it takes a machine away. An exception in
    the middle of a step would leave some weights moved and others not, so the step is finished; a second
    Ctrl-C does not wait. Lightning calls what writes checkpoints last in every step; this must come after all
    of them.

    Parameters
    ----------
    last
        What writes the state.
    """

    def __init__(self, last: LastState) -> None:
        self.last = last
        self.asked = 0
        """Number of the signal that came."""
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals, where this is the thread that hears them."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}

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
        if trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False):
            self.last.save(trainer)
            raise Interrupted(self.asked or signal.SIGINT)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number
        _say("stopping after this step; Ctrl-C (again) stops at once")


@rank_zero_only
def _say(message: str) -> None:
    print(f"\n{message}", flush=True)
