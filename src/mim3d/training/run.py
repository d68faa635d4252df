"""One training run, from a recipe to weights, resumed where it stopped."""

from __future__ import annotations

import contextlib
import datetime
import inspect
import logging
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console

import mim3d
from mim3d import checkpoint as checkpoints
from mim3d.data import Scaling
from mim3d.errors import UserError
from mim3d.machine import computes_bfloat16, describe_machine
from mim3d.nn import NETWORKS, ForecastNetwork, UNet, build
from mim3d.training.checkpointing import AtomicCheckpointIO, BestWeights, LastState, load_state
from mim3d.training.data_module import ForecastDataModule, check_runs
from mim3d.training.frames import checkpoint_entries
from mim3d.training.history import HistoryTable
from mim3d.training.interruption import Interrupted, StopBetweenSteps
from mim3d.training.module import ForecastModule
from mim3d.training.recipe import Recipe, write_recipe

LAST = "last.ckpt"
"""The exact state of a training, to resume from."""

MODEL = "model.safetensors"
"""The weights that validation found best, to forecast with."""

HISTORY = "metrics.csv"
"""The table of losses and scores, a row every few steps."""


def train(recipe: Recipe, output: str | Path, resume: bool = True) -> Path:
    """Train a network, or go on where a training of the same recipe stopped.

    The output folder holds `model.safetensors` (weights to forecast with: the best by validation, or the last
    where nothing is validated), `last.ckpt` (the exact state, to resume from), `recipe.yaml` (the recipe with
    every default spelled out), `metrics.csv` and `tensorboard/`.

    A resumed training ends with the weights of an uninterrupted one, bit by bit, on the same kind of machine
    with the same number of threads. torchrun and SLURM are recognised: start this on every process.

    Parameters
    ----------
    recipe
        What to train, on what, how.
    output
        Folder to write to.
    resume
        Go on from `last.ckpt` where there is one. If not, such a folder is refused rather than overwritten.

    Returns
    -------
    Path
        The weights to forecast with.

    Raises
    ------
    UserError
        If the recipe does not fit the data or the machine, the folder holds another training, or memory ran
        out.
    KeyboardInterrupt
        On Ctrl-C, once the state is on disk.
    SystemExit
        On SIGTERM and SIGUSR1, with 128 + the signal's number, once the state is on disk: a job that the
        cluster queues again goes on.
    """
    output = Path(output)
    data = ForecastDataModule(recipe)
    recipe = data.recipe
    state = _state_to_resume(output, recipe, resume)
    start = _read_start(recipe.network.start) if recipe.network.start else None
    if start is not None and start.scaling is not None:
        data.scaling = _scaling_of(start, data)
    if state is not None:
        data.scaling = _saved_scaling(state)
        check_runs(state[_DATA_MODULE]["runs"], data.run_names)
        if state["global_step"] >= recipe.training.steps and (output / MODEL).is_file():
            print(f"{output} holds this training already, finished")
            return output / MODEL
    network = build_network(recipe, len(data.training.channels), data.training.grid, len(data.static))
    if start is not None:
        _start_from(start, network, recipe, data)
    module = ForecastModule(network, data.channels, recipe, static=data.static)
    resumed = 0 if state is None else int(state["global_step"])
    del state
    with _nothing_half_written(output), _quiet(), _plain_errors(recipe), torch.random.fork_rng(devices=[]):
        _run(recipe, module, data, output, resumed)
    return output / MODEL


def build_network(
    recipe: Recipe, in_channels: int, grid: Sequence[int], static_channels: int = 0
) -> ForecastNetwork:
    """Make the recipe's network for the data's channels and grid, with weights that follow from the seed.

    Parameters
    ----------
    recipe
        Which network.
    in_channels
        Channels of a frame, those that are given counted too.
    grid
        Voxels along each axis.
    static_channels
        How many of the channels, the last ones, are given and not forecast.

    Raises
    ------
    UserError
        If there is no such network, it takes no such settings, or they do not fit the grid.
    """
    name, settings = recipe.network.name, recipe.network.settings
    given = {
        "in_channels": in_channels,
        "num_axes": len(grid),
        "grid": tuple(grid),
        "static_channels": static_channels,
        "input_length": recipe.data.input_length,
        "output_length": recipe.data.frames - recipe.data.input_length,
    }
    if taken := set(given) & set(settings):
        raise UserError(f"network.settings.{min(taken)} follows from the data: leave it out")
    if name in NETWORKS:
        parameters = inspect.signature(NETWORKS[name]).parameters
        known = [key for key in parameters if key not in given]
        given = {key: value for key, value in given.items() if key in parameters}
        if unknown := set(settings) - set(known):
            raise UserError(
                f"network.settings.{min(unknown)} is not known; settings of {name!r} are: {', '.join(known)}"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        try:
            return build(name, {**settings, **given})
        except (TypeError, ValueError) as error:
            raise UserError(f"network {name!r}: {error}") from error


def _read_start(name_or_path: str) -> checkpoints.Checkpoint:
    bundled = {path.stem: path for path in checkpoints.bundled_models()}
    return checkpoints.read(bundled.get(name_or_path, name_or_path))


def _start_from(
    start: checkpoints.Checkpoint, network: ForecastNetwork, recipe: Recipe, data: ForecastDataModule
) -> None:
    """Give a network the weights of a checkpoint.

    Raises
    ------
    UserError
        If the checkpoint is of another network, other channels or other units.
    """
    path = recipe.network.start
    theirs, ours = (*start.fields, *(start.static or ())), (*data.channels, *data.static)
    same_kind = start.network == recipe.network.name
    other = start.build_network() if same_kind else None
    is_part = set(data.channels) <= set(start.fields) and set(data.static) <= set(start.static)
    weights = start.weights
    if is_part and isinstance(network, UNet) and isinstance(other, UNet):
        weights = network.weights_from(other, [theirs.index(channel) for channel in ours])
    elif theirs != ours:
        raise UserError(
            f"network.start {path} has the channels {', '.join(theirs)}; the recipe has {', '.join(ours)}"
        )
    units = checkpoint_entries(data.training, data.channels)["units"]
    for name, unit in units.items():
        if start.units.get(name, unit) != unit:
            raise UserError(
                f"network.start {path} takes {name} in {start.units[name] or 'no unit'}, the data have it in "
                f"{unit or 'no unit'}"
            )
    # A grid is part of the weights only where there is one for every voxel.
    if not (same_kind and _same_weights(weights, network.state_dict())):
        raise UserError(f"network.start {path} is {start.network!r} of other settings than the recipe's")
    network.load_state_dict(weights)


def _scaling_of(start: checkpoints.Checkpoint, data: ForecastDataModule) -> Scaling:
    """Scaling of a checkpoint for the channels of the data, or for its own where they are others."""
    assert start.scaling is not None
    scaling = Scaling.from_dict(start.scaling)
    channels = (*data.channels, *data.static)
    return scaling.select(channels) if set(channels) <= set(scaling.channels) else scaling


def _same_weights(theirs: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor]) -> bool:
    return {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}


def _run(
    recipe: Recipe, module: ForecastModule, data: ForecastDataModule, output: Path, resumed: int
) -> None:
    training, machine = recipe.training, recipe.machine
    if machine.threads:
        torch.set_num_threads(machine.threads)
    validates = data.validation is not None
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the output folder {output}: {error.strerror}") from error

    def write(score: float | None, step: int) -> None:
        checkpoints.save(_checkpoint(recipe, module, data, score, step), output / MODEL)

    last = LastState(
        output / LAST, training.save_every, training.validate_every if validates else None, training.steps
    )
    callbacks: list[Callback] = [_Report(), *_progress_bar()]
    callbacks += [BestWeights(write)] if validates else []
    callbacks += [last, StopBetweenSteps(last)]
    devices, nodes = _processes(recipe)
    trainer = Trainer(
        accelerator=machine.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=machine.strategy,
        precision=_precision(recipe),  # type: ignore[arg-type]
        plugins=_plugins(),
        logger=[
            HistoryTable(output / HISTORY, resumed),
            TensorBoardLogger(
                output, name="tensorboard", version="", purge_step=resumed + 1 if resumed else None
            ),
        ],
        callbacks=callbacks,
        max_steps=training.steps,
        max_epochs=-1,
        val_check_interval=training.validate_every * training.accumulate if validates else None,
        check_val_every_n_epoch=None if validates else 1,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, training.validate_every),
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=recipe.optimizer.clip,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=any(
            isinstance(callback, RichProgressBar | TQDMProgressBar) for callback in callbacks
        ),
        default_root_dir=output,
    )
    if trainer.is_global_zero:
        write_recipe(recipe, output / "recipe.yaml")
        processes = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
        print(f"training on {describe_machine(_device(recipe), _precision(recipe))}{processes}", flush=True)
    trainer.fit(module, data, ckpt_path=output / LAST if resumed else None, weights_only=True)
    if validates and training.steps % training.validate_every:
        trainer.validate(module, data, verbose=False)
    if trainer.is_global_zero and not (validates and (output / MODEL).is_file()):
        write(None, training.steps)


def _checkpoint(
    recipe: Recipe, module: ForecastModule, data: ForecastDataModule, score: float | None, step: int
) -> checkpoints.Checkpoint:
    network, clips = module.evaluated, data.training
    assert data.scaling is not None
    return checkpoints.Checkpoint(
        network=recipe.network.name,
        settings=network.settings,
        weights={name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()},
        scaling=data.scaling.to_dict(),
        fields=data.channels,
        static=data.static,
        input_length=recipe.data.input_length,
        guard=data.guard,
        num_frames=recipe.data.frames,
        **checkpoint_entries(clips, data.channels),
        provenance={
            "recipe": replace(
                recipe, data=replace(recipe.data, folder=Path(recipe.data.folder).name)
            ).to_dict(),
            "step": step,
            "validation_score": score,
            "training_runs": len(data.run_names["train"]),
            "validation_runs": data.run_names["validation"],
            "mim3d": mim3d.__version__,
            "torch": str(torch.__version__),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        },
    )


_DATA_MODULE = ForecastDataModule.__qualname__


def _state_to_resume(output: Path, recipe: Recipe, resume: bool) -> dict[str, Any] | None:
    path = output / LAST
    if not path.is_file():
        return None
    if not resume:
        raise UserError(f"{output} holds a training already: resume it, or give another output folder")
    state = load_state(path)
    if "recipe" not in state or _DATA_MODULE not in state:
        raise UserError(f"{path} is not the state of a mim3d training: give another output folder")
    difference = _first_difference(state["recipe"], recipe.identity())
    if difference:
        raise UserError(
            f"{output} holds a training of another recipe ({difference}): give another output folder"
        )
    return state


def _saved_scaling(state: Mapping[str, Any]) -> Scaling:
    return Scaling.from_dict(state[_DATA_MODULE]["scaling"])


def _first_difference(before: Any, now: Any, name: str = "") -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            inner = _first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
            if inner:
                return inner
        return None
    return None if before == now else f"{name} was {before}, is {now}"


def _processes(recipe: Recipe) -> tuple[int | str, int]:
    """Return devices on each node, and nodes: the launcher's, where one started this process."""
    machine = recipe.machine
    if machine.devices:
        return machine.devices, machine.nodes
    environment = os.environ
    if TorchElasticEnvironment.detect() and "LOCAL_WORLD_SIZE" in environment:
        devices = int(environment["LOCAL_WORLD_SIZE"])
        return devices, int(environment["WORLD_SIZE"]) // devices
    if SLURMEnvironment.detect() and "SLURM_NTASKS" in environment:
        nodes = int(environment.get("SLURM_NNODES", "1"))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return "auto", machine.nodes


def _plugins() -> list[Any]:
    if SLURMEnvironment.detect():
        # Lightning would write a state of its own in the middle of a step; ours goes on just as well.
        return [AtomicCheckpointIO(), SLURMEnvironment(auto_requeue=False)]
    return [AtomicCheckpointIO()]


def _precision(recipe: Recipe) -> str:
    machine = recipe.machine
    if machine.precision != "auto":
        return machine.precision
    return "bf16-mixed" if computes_bfloat16(_device(recipe)) else "32-true"


def _device(recipe: Recipe) -> torch.device:
    on_gpu = recipe.machine.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _progress_bar() -> list[Callback]:
    """Rich where it can draw, tqdm on simpler terminals, neither where nobody watches."""
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        return [_TrainingBar()]
    return [TQDMProgressBar()] if sys.stderr.isatty() else []


class _TrainingBar(RichProgressBar):
    """Lightning's bar, without counting epochs: to Lightning the whole training is one."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{'Training':{len(self.validation_description)}}"


class _Report(Callback):
    """Prints a line whenever a validation ends."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        parts = [f"step {trainer.global_step}/{trainer.max_steps}: validation loss {scores['val_loss']:.4g}"]
        if "val_frame_mse" in scores:
            parts.append(
                f"squared error summed over a frame {scores['val_frame_mse']:.4g}, "
                f"of persistence {scores['val_frame_mse_persistence']:.4g}"
            )
        elif "val_midplane_error" in scores:
            parts.append(
                f"mid-planes at the last frame {scores['val_midplane_error']:.4f} dex, "
                f"{scores['val_midplane_ratio']:.3f} of persistence"
            )
        else:
            parts.append(f"error at the last frame {scores['val_ratio']:.3f} of persistence")
        if "val_affected_iou" in scores:
            parts.append(f"affected gas IoU {scores['val_affected_iou']:.3f}")
        print(", ".join(parts), flush=True)


@contextlib.contextmanager
def _nothing_half_written(output: Path) -> Iterator[None]:
    """Remove a new folder again if a training ends by a mistake of the user before a step is on record."""
    is_new = not output.exists()
    try:
        yield
    except UserError:
        if is_new and not any((output / name).exists() for name in (LAST, MODEL, HISTORY)):
            shutil.rmtree(output, ignore_errors=True)
        raise


@contextlib.contextmanager
def _plain_errors(recipe: Recipe) -> Iterator[None]:
    """Turn what a user can do something about into one line."""
    try:
        yield
    except Interrupted as error:
        if error.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.number) from None
    except SystemExit as error:
        # Lightning ends the process on a Ctrl-C that it hears itself.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    except UserError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory with data.batch_size {recipe.data.batch_size}: raise training.accumulate (now "
            f"{recipe.training.accumulate}), set training.recompute to true, or lower data.batch_size"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "not enough memory" in text or "out of memory" in text or "can't allocate memory" in text


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says about choices that are made here on purpose."""
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*is smaller than the logging interval.*",
                ".*GPU available but not used.*",
                ".*isinstance.treespec, LeafSpec.* is deprecated.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)
