"""The Lightning module: network, loss, optimiser, schedules, moving average and validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from mim3d.data import Scaling
from mim3d.errors import UserError
from mim3d.nn import ForecastNetwork, OriginalAdam
from mim3d.training.budgets import BudgetLoss
from mim3d.training.losses import ForecastLoss
from mim3d.training.recipe import OptimizerRecipe, Recipe
from mim3d.training.scheduled_sampling import LinearScheduledSampling
from mim3d.training.validation import ValidationScores


class ForecastModule(LightningModule):
    """Trains a recurrent forecaster on clips of scaled frames.

    Every random draw is a function of the recipe's seed and the step, never of a generator's history, and
    refers to a clip's place in the batch of all processes: a resumed run, or one on more processes, draws
    what the uninterrupted run on one process draws.

    Parameters
    ----------
    network
        Its last `static_channels` channels are given, the others are forecast.
    channels
        Names of the channels that are forecast, in order.
    recipe
        Loss, optimiser, schedules.
    scaling
        Turns scaled channels back into fields, for budgets and validation in physical units. Without it,
        validation is in scaled units, and budgets take channels for logarithms.
    static
        Names of the channels that are given.

    Raises
    ------
    UserError
        If names and channels of the network differ in number.
    """

    def __init__(
        self,
        network: ForecastNetwork,
        channels: Sequence[str],
        recipe: Recipe,
        scaling: Scaling | None = None,
        static: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if len(channels) != network.dynamic_channels:
            raise UserError(
                f"the network forecasts {network.dynamic_channels} channels, but these are named: "
                f"{', '.join(channels)}"
            )
        self.network = network
        self.channels = tuple(channels)
        self.recipe = recipe
        self.scaling = scaling
        loss = recipe.loss
        self.loss = ForecastLoss(
            channels,
            loss.kind,
            loss.channel_weights,
            loss.site_weight,
            static,
        )
        self.budgets = BudgetLoss(channels, static) if loss.budget_weight else None
        sampling = recipe.sampling
        self.sampling = LinearScheduledSampling(sampling.start, sampling.rate, sampling.stop)
        self.average: AveragedModel | None = None
        if decay := recipe.training.average:
            self.average = AveragedModel(network, multi_avg_fn=moving_average(decay), use_buffers=True)
            self.average.requires_grad_(False)
        self._scores: ValidationScores | None = None

    def setup(self, stage: str) -> None:
        """Take the data module's scaling where none was given."""
        if self.scaling is None:
            self.scaling = getattr(getattr(self.trainer, "datamodule", None), "scaling", None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down the recipe, so that no other is resumed from this state."""
        checkpoint["recipe"] = self.recipe.identity()

    @property
    def evaluated(self) -> ForecastNetwork:
        """The network that is validated and saved: the moving average where there is one."""
        return self.network if self.average is None else self.average.module  # type: ignore[return-value]

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Seed what a network may draw (dropout) by the step, so that a resumed run draws the same."""
        state = np.random.SeedSequence([self.recipe.training.seed, batch_idx, self.global_rank])
        torch.manual_seed(int(state.generate_state(1)[0]))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of all next-frame forecasts of `batch`, `(B, T, C, *space)`.

        Of a guided network, the guide's channels are the last ones.
        """
        iteration = self.global_step
        if self.recipe.training.time_reversed:
            iteration, backwards = divmod(iteration, 2)
            if backwards:
                batch = batch.flip(1)
        input_length = self.recipe.data.input_length
        frames, guide = self._frames_and_guide(batch)
        outputs = self.network.unroll(
            _filled(frames),
            input_length,
            self._keep(iteration, batch_idx, batch),
            self.recipe.training.recompute,
            guide,
        )
        dynamic = slice(0, self.network.dynamic_channels)
        static = frames[:, 0, self.network.dynamic_channels :]
        truth = batch[:, -outputs.shape[1] :, dynamic]
        start = batch[:, input_length - 1, dynamic]
        loss = self._loss_of(outputs[:, :, dynamic], truth, start, static)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} at step {self.global_step}: try a lower optimizer.learning_rate "
                "or a longer optimizer.warm_up"
            )
        self.log("loss", loss.detach(), prog_bar=True, sync_dist=True)
        return loss

    def _loss_of(self, forecast: Tensor, truth: Tensor, start: Tensor, static: Tensor) -> Tensor:
        """Return the error of voxels and, where it has a weight, that of the budgets."""
        loss = self.loss(forecast, truth, static)
        if self.budgets is None:
            return loss
        scaling = self.scaling.select(self.channels) if self.scaling else _logarithms(self.channels)
        budgets = self.budgets(forecast, truth, start, static, scaling)
        return loss + self.recipe.loss.budget_weight * budgets

    def _frames_and_guide(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part what the network takes as frames from the guide to those after its input."""
        if not self.network.guided:
            return batch, None
        channels = self.network.in_channels
        return batch[:, :, :channels], batch[:, self.recipe.data.input_length :, channels:]

    def _keep(self, iteration: int, batch_idx: int, batch: Tensor) -> Tensor | None:
        """Draw which true frames are fed, for this process's clips of the batch of all processes."""
        draws = batch.shape[1] - self.recipe.data.input_length - 1
        probability = self.sampling.probability(iteration)
        self.log("keep_probability", probability)
        if not draws or not probability:
            return None
        parts = self.recipe.training.accumulate
        place = (batch_idx % parts) * self.trainer.world_size + self.global_rank
        generator = np.random.default_rng([self.recipe.training.seed, iteration, _SAMPLING])
        kept = self.sampling.draw(iteration, (self.recipe.data.batch_size, draws), generator)
        return torch.from_numpy(kept[place * len(batch) : (place + 1) * len(batch)]).to(batch)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then move the average."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its learning rate's schedule."""
        settings = self.recipe.optimizer
        optimizer: Optimizer
        if settings.name == "adamw":
            optimizer = AdamW(
                self.network.parameters(),
                settings.learning_rate,
                settings.betas,
                weight_decay=settings.weight_decay,
            )
        else:
            optimizer = OriginalAdam(self.network.parameters(), settings.learning_rate, settings.betas)
        schedule = LambdaLR(optimizer, learning_rate_factor(settings, self.recipe.training.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the learning rate, and the steps taken as the step of the row."""
        self.log("step", float(self.global_step))
        self.log("learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    def on_validation_epoch_start(self) -> None:
        """Start the scores."""
        data = self.recipe.data
        scaling = None if self.scaling is None or data.dataset else self.scaling.select(self.channels)
        self._scores = ValidationScores(
            self.channels, data.frames - data.input_length, scaling, images=bool(data.dataset)
        )

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Forecast whole clips from their input frames alone and score them."""
        input_length = self.recipe.data.input_length
        network = self.evaluated
        dynamic = slice(0, network.dynamic_channels)
        limits = None
        if self.scaling is not None:
            limits = torch.tensor([self.scaling.low, self.scaling.high], device=batch.device)
        batch, guide = self._frames_and_guide(batch)
        past, steps = _filled(batch[:, :input_length]), batch.shape[1] - input_length
        forecast = network.forecast(past, steps, limits, guide)[:, :, dynamic]
        truth, last_input = batch[:, input_length:, dynamic], batch[:, input_length - 1, dynamic]
        loss = self._loss_of(forecast, truth, last_input, batch[:, 0, network.dynamic_channels :])
        assert self._scores is not None
        self._scores.accumulate(forecast.float(), truth, last_input, float(loss))

    def on_validation_epoch_end(self) -> None:
        """Merge the scores of all processes and log them."""
        assert self._scores is not None
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, self._scores)
            self._scores = ValidationScores.merge_all(gathered)
        scores = self._scores.compute()
        self._scores = None
        self.log("step", float(self.global_step), sync_dist=True)
        self.log_dict({f"val_{name}": value for name, value in scores.items()}, sync_dist=True)
        self.log("val_score", self.score(scores), prog_bar=True, sync_dist=True)

    @staticmethod
    def score(scores: dict[str, float]) -> float:
        """Return the one number, smaller is better, by which the best weights are chosen."""
        return scores.get("frame_mse", scores.get("midplane_ratio", scores["ratio"]))


_SAMPLING = 1
"""Tells the draws of scheduled sampling from those of the order of the data, which share the seed."""


def _logarithms(channels: Sequence[str]) -> Scaling:
    """Return the scaling of channels that are log10 of fields, whatever these are."""
    count = len(channels)
    return Scaling(tuple(channels), ("log",) * count, (0.0,) * count, (1.0,) * count)


def _filled(frames: Tensor) -> Tensor:
    """Return frames with 0 where nothing was measured."""
    # Most data have no gaps, and a sum is one pass.
    if not frames.sum().isnan():
        return frames
    return torch.where(frames.isnan(), 0, frames)


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the update of an exponential moving average that starts quickly.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the random initial weights are forgotten
    soon in short trainings too.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        share = 1 - min(decay, (1 + count) / (10 + count))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)

    return update


def learning_rate_factor(settings: OptimizerRecipe, steps: int) -> Callable[[int], float]:
    """Return the learning rate's share of its highest value as a function of the step.

    It rises linearly over `warm_up` steps, then falls to `final` along half a cosine.
    """
    warm_up, final = settings.warm_up, settings.final

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        progress = min(1.0, (step - warm_up) / max(1, steps - warm_up))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
