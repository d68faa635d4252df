"""Recipes: everything that decides a training run, typed, from YAML and flags."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from mim3d.errors import UserError


@dataclass(frozen=True)
class NetworkRecipe:
    """Which network.

    Parameters
    ----------
    name
        A key of `mim3d.nn.NETWORKS`.
    settings
        Arguments of its constructor. Channels, grid and number of axes are not given: they follow from the
        data.
    start
        A checkpoint, or the name of one that comes with the package, whose weights and scaling the training
        starts from, in place of random weights. Its network and channels must be the recipe's; a `unet` may
        start from one with more channels, and a guided one from one that is not.
    """

    name: str = "multiscale-mim"
    settings: dict[str, Any] = field(default_factory=dict)
    start: str = ""


@dataclass(frozen=True)
class DataRecipe:
    """Which frames, and what of them: simulated runs, or a data set of images by its name.

    Parameters
    ----------
    folder
        Folder of The Well's HDF5 files; of a named data set its files, see `mim3d data describe NAME`.
    dataset
        Name of a data set of images, see `mim3d data list`; empty for runs.
    options
        Of the named data set; its card lists them.
    fields
        Fields that the network forecasts; a vector gives one channel per axis. `affected`, how much the gas
        differs from its twin without the explosion, is made from the twin.
    static
        What is given and not forecast: `site` marks where the star explodes, `site_energy` also with which
        energy; a field, such as `velocity`, as it is in the last frame of the input.
    frames
        Frames of a clip, input and future together; 0 for what is usual: 20 of a run, and of a named data set
        what it says itself.
    input_length
        Frames of a clip that are given; 0 for what is usual: 1 of a run, and of a named data set what it says
        itself.
    window
        Voxels along each axis that training clips are cut to, around the explosion's site; 0 for the whole
        box. Validation sees whole boxes. Layer normalisation and peepholes per voxel depend on the size of
        the box: leave them out, or train on whole boxes.
    symmetries
        Whether every clip is turned and mirrored at random (48 ways for a cube).
    shares
        Of the runs that are trained on, validated on and left alone for a test. Whole runs are divided, by
        their names; runs that are added later leave the division as it is.
    validation_clips
        How many clips are validated on, spread evenly over all there are; 0 for all.
    batch_size
        Clips of one optimiser step, over all processes together.

    Notes
    -----
    `fields`, `static`, `window`, `symmetries` and `shares` are of runs alone: a named data set says itself
    what is in a frame and how it is divided.
    """

    folder: str = ""
    dataset: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    fields: tuple[str, ...] = ("density", "affected")
    static: tuple[str, ...] = ("site",)
    frames: int = 0
    input_length: int = 0
    window: int = 0
    symmetries: bool = True
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    validation_clips: int = 0
    batch_size: int = 4


_RUN_FRAMES, _RUN_INPUT = 20, 1
_OF_RUNS = ("fields", "static", "window", "symmetries", "shares")


@dataclass(frozen=True)
class LossRecipe:
    """What is made small.

    Parameters
    ----------
    kind
        `absolute` or `squared` error, averaged; or `half-sum-squared`, the papers': summed over a clip and
        halved.
    channel_weights
        Weight of the loss by name of channel, 1 where not given.
    site_weight
        Extra weight where the star explodes, which falls to 0 at 30 pc; 0 weighs all alike.
    budget_weight
        Weight of how far mass, heat and outward momentum are off as a whole; of gas. 0 leaves them out.
    """

    kind: Literal["absolute", "squared", "half-sum-squared"] = "absolute"
    channel_weights: dict[str, float] = field(default_factory=dict)
    site_weight: float = 0.0
    budget_weight: float = 0.0


@dataclass(frozen=True)
class OptimizerRecipe:
    """How weights move.

    Parameters
    ----------
    name
        `adamw`, or `original-adam`: that of the original programs, epsilon inside the root.
    learning_rate
        Its highest value.
    betas
        Decay rates of the two moments.
    weight_decay
        Of `adamw`.
    clip
        Largest norm of the gradient; `null` for none.
    warm_up
        Steps in which the learning rate rises from 0.
    final
        Learning rate at the last step, as a share of the highest, reached along a cosine; 1 keeps it
        constant.
    """

    name: Literal["adamw", "original-adam"] = "adamw"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float | None = 1.0
    warm_up: int = 100
    final: float = 0.01


@dataclass(frozen=True)
class SamplingRecipe:
    """Scheduled sampling: how often the true frame is fed beyond the input (arXiv 1506.03099).

    Parameters
    ----------
    start
        Probability of feeding the true frame at the first step; 0 trains on the network's own forecasts.
    rate
        How much it falls every step.
    stop
        Step from which it is 0.
    """

    start: float = 0.0
    rate: float = 2e-5
    stop: int = 50_000


@dataclass(frozen=True)
class TrainingRecipe:
    """How long, and what is kept.

    Parameters
    ----------
    steps
        Optimiser steps.
    seed
        Of initial weights, order of the data, symmetries and scheduled sampling.
    accumulate
        Parts into which a batch is cut, one after the other, when it does not fit into memory.
    recompute
        Gradient checkpointing: of every cell and stage keep the inputs alone, and recompute the rest in the
        backward pass.
    average
        Decay of the moving average of the weights that is validated and saved; 0 for none.
    validate_every
        Steps between validations.
    save_every
        Steps between writes of `last.ckpt`.
    time_reversed
        Train on every batch a second time, backwards, as the originals do. Off by default: a blast wave does
        not run backwards.
    """

    steps: int = 10_000
    seed: int = 0
    accumulate: int = 1
    recompute: bool = False
    average: float = 0.999
    validate_every: int = 500
    save_every: int = 100
    time_reversed: bool = False


@dataclass(frozen=True)
class MachineRecipe:
    """Where it runs. May change when a run is resumed.

    Parameters
    ----------
    accelerator
        `auto`, `cpu`, `gpu`.
    devices
        Devices, or processes, on each node; 0 takes what torchrun or SLURM started, otherwise all GPUs or one
        process on the CPU.
    nodes
        Nodes; torchrun and SLURM say so themselves.
    strategy
        `auto` (DDP where there is more than one process) or `ddp`.
    precision
        `auto` (bfloat16 where the device multiplies it in hardware, otherwise float32), or any of
        Lightning's.
    threads
        Of each process on a CPU; 0 takes PyTorch's choice, one for every core.
    workers
        Processes that read the data beside each training process; 0 reads in the training process itself.
    cache
        Keep all runs in memory; named data sets have their own ways.
    """

    accelerator: str = "auto"
    devices: int = 0
    nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: str = "auto"
    threads: int = 0
    workers: int = 0
    cache: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Parameters
    ----------
    network
        Which network.
    data
        Which frames.
    loss
        What is made small.
    optimizer
        How weights move.
    sampling
        How often the true frame is fed.
    training
        How long.
    machine
        Where.
    """

    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    sampling: SamplingRecipe = field(default_factory=SamplingRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    machine: MachineRecipe = field(default_factory=MachineRecipe)

    def __post_init__(self) -> None:
        """Fill in what is usual for runs, and check what types alone do not say."""
        if self.data.dataset:
            self._check_named_data_set()
        else:
            if self.data.options:
                raise UserError("data.options are those of a named data set: name it as data.dataset")
            usual = replace(
                self.data,
                frames=self.data.frames or _RUN_FRAMES,
                input_length=self.data.input_length or _RUN_INPUT,
            )
            object.__setattr__(self, "data", usual)
        positive = {
            "data.batch_size": self.data.batch_size,
            "optimizer.learning_rate": self.optimizer.learning_rate,
            "training.steps": self.training.steps,
            "training.accumulate": self.training.accumulate,
            "training.validate_every": self.training.validate_every,
            "training.save_every": self.training.save_every,
            "machine.nodes": self.machine.nodes,
        }
        if self.data.frames:
            positive["data.frames"] = self.data.frames - 1
        if self.data.input_length:
            positive["data.input_length"] = self.data.input_length
        for name, value in positive.items():
            if value <= 0:
                raise UserError(f"{name} must be larger, got {value + (name == 'data.frames')}")
        at_least_zero = {
            "data.validation_clips": self.data.validation_clips,
            "loss.budget_weight": self.loss.budget_weight,
        }
        for name, value in at_least_zero.items():
            if value < 0:
                raise UserError(f"{name} must not be negative, got {value}")
        if self.loss.budget_weight and self.data.dataset:
            raise UserError(f"loss.budget_weight is for gas; {self.data.dataset} has none")
        shares = {
            "optimizer.final": self.optimizer.final,
            "sampling.start": self.sampling.start,
            "training.average": self.training.average,
        }
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} is a share between 0 and 1, got {value}")
        if not (self.data.fields or self.data.dataset):
            raise UserError("data.fields is empty: name at least one field to forecast")
        if self.is_guided and self.data.dataset:
            raise UserError(f"network.settings.guided needs gas to simulate; {self.data.dataset} has none")
        if self.is_guided and self.training.time_reversed:
            raise UserError("training.time_reversed has no guide: set it or network.settings.guided to false")
        if self.data.frames and self.data.input_length >= self.data.frames:
            raise UserError(
                f"data.input_length is {self.data.input_length}: with data.frames {self.data.frames} "
                "there is nothing left to forecast"
            )
        if self.data.batch_size % self.training.accumulate:
            raise UserError(
                f"data.batch_size {self.data.batch_size} cannot be cut into training.accumulate "
                f"{self.training.accumulate} equal parts"
            )

    @property
    def is_guided(self) -> bool:
        """Whether the network wants a guide to every frame that it is to forecast."""
        return bool(self.network.settings.get("guided", False))

    def _check_named_data_set(self) -> None:
        """Refuse what would do nothing, and set what is of runs alone to nothing."""
        usual = DataRecipe()
        nothing = replace(usual, fields=(), static=(), symmetries=False)
        for name in _OF_RUNS:
            if getattr(self.data, name) not in (getattr(usual, name), getattr(nothing, name)):
                raise UserError(
                    f"data.{name} is for folders of runs; the data set {self.data.dataset} says it itself"
                )
        if self.machine.cache:
            raise UserError(f"machine.cache is for folders of runs, not for {self.data.dataset}")
        of_runs = {name: getattr(nothing, name) for name in _OF_RUNS}
        object.__setattr__(self, "data", replace(self.data, **of_runs))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and mappings, as in a recipe's YAML."""
        plain = _plain(asdict(self))
        # What does not apply is left out.
        for name in _OF_RUNS if self.data.dataset else ("dataset", "options"):
            del plain["data"][name]
        return plain

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a run to be resumed: not where it runs, nor where the data lie."""
        plain = self.to_dict()
        del plain["machine"], plain["data"]["folder"]
        del plain["training"]["save_every"], plain["training"]["recompute"]
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("mim3d.training") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def recipe_path(name_or_path: str | Path) -> Path:
    """Return the YAML file of a packaged recipe, or the file itself.

    Raises
    ------
    UserError
        If there is neither a file nor a packaged recipe of that name.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if str(name_or_path) in packaged_recipes():
        return Path(str(resources.files("mim3d.training") / "recipes" / f"{name_or_path}.yaml"))
    raise UserError(
        f"there is no recipe {str(name_or_path)!r}: give a YAML file, or one of "
        f"{', '.join(packaged_recipes())}"
    )


def recipe_parser(**kwargs: Any) -> ArgumentParser:
    """Return the parser of a recipe's flags (`--training.steps 100`) and its `--config` file.

    Parameters
    ----------
    **kwargs
        Given on to `jsonargparse.ArgumentParser`.
    """
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, **kwargs)
    parser.add_argument("--config", action="config", help="YAML file of a recipe.")
    parser.add_class_arguments(Recipe)
    return parser


def load_recipe(name_or_path: str | Path, flags: Sequence[str] = ()) -> Recipe:
    """Read a recipe; flags win over the file, the file over the defaults.

    Parameters
    ----------
    name_or_path
        Name of a packaged recipe or a YAML file.
    flags
        As on the command line, for instance `["--training.steps=100", "--data.folder=sims"]`.

    Raises
    ------
    UserError
        If there is no such recipe, a key is not known or a value has the wrong type.
    """
    path = recipe_path(name_or_path)
    parser = recipe_parser()
    try:
        arguments = parser.parse_args([f"--config={path}", *flags])
        return Recipe(
            **{name: getattr(parser.instantiate(arguments), name) for name in Recipe.__annotations__}
        )
    except UserError:
        raise
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"recipe {path.name}: {_one_line(error)}") from error


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every default spelled out, to be read again by `load_recipe`."""
    import yaml

    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
