"""The command line: parses, calls one function, prints.

Everything that computes is imported where it is called, so that `mim3d --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from mim3d import __version__
from mim3d.errors import UserError

USER_ERROR = 2
UNTRUSTED = 3
INTERRUPTED = 130

_DESCRIPTION = """Forecast where the shell of a supernova will be, and any other field that evolves.
Without a FILE, `mim3d forecast` runs the bundled model on a bundled cloud."""


class _Parser(ArgumentParser):
    """Says what is wrong on one line, as every other error does."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what `main` prints."""
        program = self.prog.replace(" [options]", "")
        raise UserError(f"{_plain(message)} (see `{program} --help`)") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments
        What follows `mim3d` on the command line; of this process by default.

    Returns
    -------
    int
        0; 2 after a user's mistake, told in one line on stderr; 3 after `forecast --strict` of gas that the
        model does not know; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        given, recipe_flags = _split_recipe_flags(given)
        # Nothing asked for: say what there is.
        if given in ([], ["data"]):
            given.append("--help")
        parsed = build_parser().parse_args(given)
        command = parsed.subcommand
        options = parsed[command]
        options.pop("config", None)
        if command in _TAKE_RECIPE_FLAGS:
            options.recipe_flags = recipe_flags
        code = _COMMANDS[command](options)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever read our output has gone (`mim3d ... | head`); nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        print("mim3d: stopped", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:
        # --help and --version end here.
        return end.code if isinstance(end.code, int) else 0
    return code or 0


def build_parser() -> ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="mim3d", description=_DESCRIPTION, version=__version__)
    commands = parser.add_subcommands(required=True, metavar="COMMAND")
    for name, (add_options, summary) in {
        "forecast": (_forecast_options, "Forecast a supernova (or any field) from a file."),
        "simulate": (_simulate_options, "Simulate supernovae in turbulent clouds, to train on."),
        "train": (_train_options, "Train a network on a folder of runs."),
        "plan": (_plan_options, "Say what memory and time a training would take, before it runs."),
        "evaluate": (_evaluate_options, "Score a model over a folder of simulated runs."),
        "data": (_data_options, "List, describe, make, download and check data sets of images."),
        "calibrate": (_calibrate_options, "Teach a trained model when it is not to be believed."),
        "convert": (_convert_options, "Turn a checkpoint of the original programs or of OpenSTL into ours."),
        "info": (_info_options, "Say what a file or a model holds."),
    }.items():
        command = _Parser(description=summary)
        # Commands of commands can only be added from the outside in.
        commands.add_subcommand(name, command, help=summary)
        add_options(command)
    return parser


def _forecast_options(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    parser.add_argument(
        "file",
        nargs="?",
        type=str,
        help="The Well's HDF5, npz samples, or a snapshot of particles (SWIFT, GADGET, ... HDF5); "
        "the bundled example cloud where left out. Of a folder every file is forecast that is not yet.",
    )
    parser.add_argument(
        "--steps",
        type=PositiveInt,
        help="Frames to forecast (19; as many as its sequences have of a --dataset).",
    )
    parser.add_argument(
        "--model",
        type=str,
        default="auto",
        help="Bundled model or path of a .safetensors file; auto takes the bundled one that makes most of "
        "what the file holds, or that was trained on the --dataset.",
    )
    parser.add_argument("--output", type=Path, default=Path("forecast"), help="Folder to write.")
    parser.add_argument(
        "--device", type=str, default="auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."
    )
    _machine_options(parser)
    parser.add_argument("--run", type=NonNegativeInt, default=0, help="Which of a file's runs or sequences.")
    _dataset_options(parser, "Sequences of a --dataset to forecast, from --run on (1).")
    parser.add_argument(
        "--center",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="Where the star explodes [pc]; needed for particles.",
    )
    parser.add_argument(
        "--box", type=PositiveFloat, help="Side of the box [pc], for npz files, which do not say it."
    )
    parser.add_argument(
        "--energy",
        type=PositiveFloat,
        help="Of the explosion [erg], for models that are told it; what the file says, or 1e51.",
    )
    parser.add_argument(
        "--units",
        nargs="+",
        type=str,
        metavar="NAME=UNIT",
        help="Units of what the file gives none for, such as density=Msun/pc3 time=Myr length=pc.",
    )
    parser.add_argument(
        "--workers", type=PositiveInt, help="Processes on this machine, for a folder of files (1)."
    )
    parser.add_argument(
        "--scheduler", type=str, help="Address of a Dask scheduler, tcp://host:port, for a folder of files."
    )

    parser.add_argument(
        "--members",
        type=PositiveInt,
        default=1,
        help="Forecasts of the turned and mirrored gas to average; more than 1 also give their spread.",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="End with code 3, after writing, unless the gas is inside of the model's training range.",
    )


def _machine_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        type=str,
        default="auto",
        help="float32 or bfloat16 convolutions; auto takes bfloat16 on GPUs that have it.",
    )
    parser.add_argument(
        "--memory-format",
        type=str,
        default="auto",
        help="contiguous or channels-last weights; auto takes channels-last for bfloat16 on a CPU "
        "(a U-Net computes with channels last in any case).",
    )
    parser.add_argument("--threads", type=PositiveInt, help="Threads on the CPU (one for every core).")


def _simulate_options(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    parser.add_argument(
        "--output", type=Path, required=True, help="Folder of the runs; finished ones are kept."
    )
    pair = {"nargs": 2, "type": float, "metavar": ("MIN", "MAX")}
    for flag, settings in {
        "--runs": {"type": PositiveInt, "help": "How many clouds (200)."},
        "--seed": {"type": NonNegativeInt, "help": "Of the campaign (0)."},
        "--grid": {"type": PositiveInt, "help": "Cells along each axis that the gas is simulated with (64)."},
        "--voxels": {"type": PositiveInt, "help": "Voxels along each axis of what is stored (32)."},
        "--fields": {
            "nargs": "+",
            "type": str,
            "help": "Fields to store (density pressure temperature velocity).",
        },
        "--density": {**pair, "help": "Range of the number density of hydrogen [cm^-3] (44.5 44.5)."},
        "--mach": {**pair, "help": "Range of the Mach number of the turbulence (5 5)."},
        "--temperature": {"type": PositiveFloat, "help": "Of the cloud [K] (100)."},
        "--cooling": {"type": str, "help": "Emissivity: gnat2007, schure2009 or none (gnat2007)."},
        "--energy": {
            "nargs": "+",
            "type": PositiveFloat,
            "metavar": "ENERGY",
            "help": "Of the explosion [erg]: one, or MIN MAX of a range (1e51).",
        },
        "--box": {"type": PositiveFloat, "help": "Side of the box [pc] (60)."},
        "--frames": {"type": PositiveInt, "help": "Frames after the explosion (19)."},
        "--time-step": {"type": PositiveFloat, "help": "Between frames [Myr] (1/150)."},
        "--site": {
            "nargs": "+",
            "type": str,
            "metavar": "PLACE",
            "help": "Where the star explodes: X Y Z from the lower corner of the box [pc], or centre, "
            "filament (the densest voxel), void (the thinnest) or off-centre (centre).",
        },
        "--site-reach": {
            "type": PositiveFloat,
            "help": "How far from the centre a filament, a void, ... may be [pc] (12).",
        },
        "--explosions": {"type": PositiveInt, "help": "Stars that explode at the same moment (1)."},
        "--workers": {"type": PositiveInt, "help": "Processes on this machine (as many as cores)."},
        "--scheduler": {"type": str, "help": "Address of a Dask scheduler, tcp://host:port."},
        "--device": {"type": str, "help": "cpu or cuda (cpu)."},
        "--batch": {"type": PositiveInt, "help": "Clouds that one process simulates at a time (1)."},
    }.items():
        # No defaults: those of CampaignSettings hold, and importing them here would load PyTorch.
        parser.add_argument(flag, default=None, **settings)


def _train_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        type=str,
        help="YAML file, or name of a recipe that comes along. Any of its keys may be set, "
        "for instance --training.steps 1000.",
    )
    parser.add_argument("--data", type=Path, help="Folder of runs in The Well's layout.")
    parser.add_argument(
        "--output", type=Path, required=True, help="Folder to write; a stopped training goes on there."
    )


def _plan_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "recipe", type=str, help="YAML file, or name of a recipe that comes along; its keys may be set."
    )
    parser.add_argument(
        "--data", type=Path, help="Folder of runs in The Well's layout, or of the recipe's data set."
    )
    parser.add_argument(
        "--grid",
        nargs="+",
        type=PositiveInt,
        help="Voxels along each axis, where there are no data yet and the data set has no size of its own.",
    )
    parser.add_argument("--device", type=str, default="cpu", help="cpu or cuda.")
    parser.add_argument(
        "--memory", type=PositiveFloat, help="Memory to plan for [GB]; what is free here by default."
    )


def _evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        type=str,
        default="auto",
        help="Bundled model or path of a .safetensors file; auto, or none before a --dataset, takes the "
        "bundled one that makes most of what the runs hold, or that was trained on the --dataset; "
        "simulation, the gas solver on the voxels that a model is given.",
    )
    parser.add_argument(
        "folder",
        nargs="*",
        type=Path,
        help="Folders of runs in The Well's layout, or single files; the ordinary clouds first, then sets to "
        "compare with them.",
    )
    _dataset_options(parser, "Sequences of a --dataset to score, spread evenly over all (all).")
    parser.add_argument(
        "--lpips",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="Score LPIPS of a --dataset, too, with these weights: AlexNet's of torchvision "
        "(alexnet-owt-7be5be79.pth) and, unless torchmetrics has it, LPIPS's alex.pth.",
    )
    parser.add_argument(
        "--extrapolation",
        action="store_true",
        help="Score the extrapolation of echoes by pysteps, too, for --dataset radar.",
    )
    parser.add_argument("--steps", type=PositiveInt, help="Frames to forecast; as many as the runs have.")
    parser.add_argument(
        "--members",
        type=PositiveInt,
        default=1,
        help="Forecasts of the turned gas to average; more than 1 also score their spread.",
    )
    parser.add_argument("--output", type=Path, default=Path("evaluation"), help="Folder to write.")
    parser.add_argument(
        "--device", type=str, default="auto", help="cpu, cuda, ...; auto takes a GPU if there is one."
    )
    _machine_options(parser)


def _data_options(parser: ArgumentParser) -> None:
    actions = parser.add_subcommands(required=True, metavar="ACTION", dest="action")
    add: dict[str, tuple[_Parser, str]] = {
        name: (_Parser(description=summary), summary)
        for name, summary in {
            "list": "Name the data sets.",
            "describe": "Print the card of a data set: protocol, files, options, licence, citation.",
            "make": "Generate a data set to disk, as npz files.",
            "download": "Download the public files of a data set; the same command goes on after a cut.",
            "check": "Say whether files of data are usable, and what is in them.",
        }.items()
    }
    for name in ("describe", "make", "download"):
        add[name][0].add_argument("name", type=str, help="Name of the data set, see `mim3d data list`.")
    for name in ("make", "download"):
        add[name][0].add_argument("--output", type=Path, required=True, help="Folder to write.")
    add["make"][0].add_argument("--data", type=str, help="Where the digits come from, see the card.")
    add["make"][0].add_argument(
        "--splits", nargs="+", type=str, help="Of train, validation and test; all three where left out."
    )
    add["check"][0].add_argument("path", type=Path, help="A file or a folder.")
    for name in ("make", "check"):
        _dataset_flag(add[name][0])
    for name, (action, summary) in add.items():
        actions.add_subcommand(name, action, help=summary)


def _dataset_options(parser: ArgumentParser, count: str) -> None:
    parser.add_argument(
        "--dataset", type=str, help="In place of a file: name of a data set of images, see `mim3d data list`."
    )
    parser.add_argument("--data", type=str, help="Files of the --dataset, see `mim3d data describe NAME`.")
    parser.add_argument(
        "--split", type=str, default="test", help="Of the --dataset: train, validation or test (test)."
    )
    parser.add_argument("--count", type=PositiveInt, help=count)
    _dataset_flag(parser, " Where one is not given, that of the model's training counts.")


def _dataset_flag(parser: ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--options",
        nargs="+",
        type=str,
        metavar="NAME=VALUE",
        help=f"Options of the data set, such as count=500 speed=toronto; its card lists them.{more}",
    )


def _calibrate_options(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="Path of a .safetensors file.")
    parser.add_argument(
        "--data", type=Path, required=True, help="Folder of the runs that it was trained and validated on."
    )
    parser.add_argument("--output", type=Path, help="File to write; the model itself where left out.")
    parser.add_argument(
        "--members",
        type=PositiveInt,
        default=8,
        help="Members of the forecasts that calibrate the spread; 1 leaves the spread alone.",
    )
    parser.add_argument(
        "--runs", type=PositiveInt, default=24, help="Validation runs to forecast for it, at most."
    )
    parser.add_argument(
        "--device", type=str, default="auto", help="cpu, cuda, ...; auto takes a GPU if there is one."
    )
    parser.add_argument(
        "--half", action="store_true", help="Store the weights in half precision: half the size."
    )


def _convert_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=Path,
        help="Prefix of a TensorFlow checkpoint, such as model.ckpt-7, or OpenSTL's .pth or .ckpt.",
    )
    parser.add_argument("target", type=Path, help="The .safetensors file to write.")
    parser.add_argument(
        "--patch-size", type=PositiveInt, help="--patch_size of the original; 1 if nothing says otherwise."
    )
    parser.add_argument("--grid", nargs="+", type=PositiveInt, help="Voxels along each axis of a frame.")
    parser.add_argument("--average", action="store_true", help="Take the moving averages of the weights.")


def _info_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", type=str, help="A data file, a snapshot, a checkpoint, or a bundled model's name."
    )


def _forecast(options: Namespace) -> int:
    if options.dataset is not None:
        return _forecast_dataset(options)
    _refuse(options, _OF_DATASETS, "is for a --dataset")
    from mim3d.machine import use_threads
    from mim3d.report import forecast_file, forecast_table, speed_lines, trust_lines

    use_threads(options.threads)
    if options.file is not None and Path(options.file).is_dir():
        return _forecast_folder(options)
    if options.workers or options.scheduler:
        raise UserError("--workers and --scheduler need a folder of files to share out")
    comparison = forecast_file(
        options.file,
        options.output,
        model=options.model,
        steps=options.steps or 19,
        device=options.device,
        precision=options.precision,
        memory_format=options.memory_format,
        index=options.run,
        center=options.center,
        box=options.box,
        energy=options.energy,
        units=_units(options.units),
        members=options.members,
        say=_say,
    )
    _print(forecast_table(comparison))
    for line in trust_lines(comparison.forecast):
        _say(line)
    for line in speed_lines(comparison):
        _say(line)
    _say(f"wrote {options.output}/: {', '.join(sorted(path.name for path in options.output.iterdir()))}")
    return UNTRUSTED if options.strict and not comparison.forecast.is_trusted else 0


def _forecast_folder(options: Namespace) -> int:
    from mim3d.report import BatchSettings, batch_lines, forecast_folder

    if options.run:
        raise UserError("--run chooses from one file; of a folder's files all runs are forecast")
    settings = BatchSettings(
        model=options.model,
        steps=options.steps or 19,
        device=options.device,
        precision=options.precision,
        memory_format=options.memory_format,
        center=None if options.center is None else tuple(options.center),
        box=options.box,
        energy=options.energy,
        units=_units(options.units),
        members=options.members,
    )
    result = forecast_folder(
        options.file, options.output, settings, workers=options.workers, scheduler=options.scheduler
    )
    for line in batch_lines(result, options.output):
        _say(line)
    if result.failed:
        raise UserError(f"{_count(len(result.failed), 'file')} could not be forecast, the others are done")
    return UNTRUSTED if options.strict and result.untrusted else 0


def _forecast_dataset(options: Namespace) -> int:
    from mim3d.report.images import forecast_dataset

    if options.file is not None:
        raise UserError(f"give a file ({options.file}) or a --dataset ({options.dataset}), not both")
    _refuse(options, _OF_GAS, "is for gas, not for a --dataset of images")
    _refuse(
        options,
        _OF_TURNED_GAS,
        "turns and mirrors gas; it is not for a --dataset of images",
    )
    _refuse(options, _OF_GUARDS, "asks the guard of a model of gas; models of a --dataset have none")
    forecaster = _load_model(options, _dataset_model(options))
    sequences = _open_dataset(options, forecaster)
    forecast_dataset(
        forecaster,
        sequences,
        options.output,
        first=options.run,
        count=options.count or 1,
        steps=options.steps,
        say=_say,
    )
    _say(f"wrote {options.output}/: {', '.join(sorted(path.name for path in options.output.iterdir()))}")
    return 0


_OF_DATASETS: dict[str, Any] = {"data": None, "split": "test", "count": None, "options": None}
_OF_GAS: dict[str, Any] = dict.fromkeys(("center", "box", "energy", "units", "workers", "scheduler"))
_OF_TURNED_GAS: dict[str, Any] = {"members": 1}
_OF_GUARDS: dict[str, Any] = {"strict": False}


def _refuse(options: Namespace, names: Mapping[str, Any], why: str) -> None:
    """Refuse options that would do nothing: those that do not have their defaults."""
    for name, default in names.items():
        if options[name] != default:
            raise UserError(f"--{name} {why}")


def _dataset_model(options: Namespace) -> str:
    from mim3d.forecasting import dataset_model

    return dataset_model(options.dataset) if options.model == "auto" else options.model


def _load_model(options: Namespace, model: str) -> Any:
    from mim3d.forecasting import load
    from mim3d.machine import describe_machine, use_threads

    use_threads(options.threads)
    forecaster = load(model, options.device, options.precision, options.memory_format)
    where = describe_machine(forecaster.device, forecaster.precision, forecaster.channels_last)
    _say(f"model {forecaster.name} on {where}")
    return forecaster


def _load_solver(options: Namespace) -> Any:
    from mim3d.machine import use_threads
    from mim3d.resimulation import Resimulation

    use_threads(options.threads)
    solver = Resimulation(options.device)
    _say(f"the gas solver on {solver.device}, from what a model is given")
    return solver


def _open_dataset(options: Namespace, forecaster: Any) -> Any:
    from mim3d.report.images import open_as_trained

    given = _pairs_of_options(options.options)
    return open_as_trained(
        forecaster.checkpoint, options.dataset, options.data, options.split, say=_say, **given
    )


def _simulate(options: Namespace) -> None:
    from mim3d.campaign import CampaignSettings, run_campaign

    given = {name: value for name, value in vars(options).items() if value is not None}
    output = given.pop("output")
    machine = {name: given.pop(name) for name in ("workers", "scheduler", "device", "batch") if name in given}
    # The settings' lists are tuples, which do not change.
    fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    if "energy" in fixed:
        fixed["energy"] = _number_or_range(fixed["energy"])
    if "site" in fixed:
        fixed["site"] = _place(fixed["site"])
    settings = CampaignSettings(**fixed)
    paths = run_campaign(settings, output, **machine)
    _say(f"{_count(len(paths), 'run')} in {output}")


def _train(options: Namespace) -> None:
    from mim3d.training import load_recipe, train

    _say(f"wrote {train(load_recipe(options.recipe, _all_recipe_flags(options)), options.output)}")


def _plan(options: Namespace) -> None:
    from mim3d.report.planning import plan_lines
    from mim3d.training import load_recipe, plan_training

    plan = plan_training(
        load_recipe(options.recipe, _all_recipe_flags(options)),
        grid=options.grid,
        device=options.device,
        limit=None if options.memory is None else int(1e9 * options.memory),
    )
    _print_pairs(plan_lines(plan))


def _evaluate(options: Namespace) -> None:
    if bool(options.folder) == (options.dataset is not None):
        raise UserError("give a folder of runs or the name of a data set (--dataset), one of the two")
    if options.dataset is not None:
        _evaluate_dataset(options)
        return
    _refuse(options, _OF_DATASETS | {"lpips": None, "extrapolation": False}, "is for a --dataset")
    from mim3d.report import (
        best_model_of_runs,
        evaluate,
        evaluation_lines,
        score_table,
        set_table,
        write_evaluation,
    )

    if options.model == "simulation":
        forecaster = _load_solver(options)
    else:
        is_auto = options.model == "auto"
        forecaster = _load_model(options, best_model_of_runs(options.folder[0]) if is_auto else options.model)
    evaluations = []
    for folder in options.folder:
        with _progress(f"scoring {folder}") as progress:
            evaluations.append(
                evaluate(forecaster, folder, steps=options.steps, members=options.members, progress=progress)
            )
    write_evaluation(evaluations, options.output)
    first = evaluations[0]
    _print(score_table(first))
    for line in evaluation_lines(first):
        _say(line)
    if len(evaluations) > 1:
        _print(set_table(evaluations))
    _say(f"{_count(first.num_runs, 'run')}, {first.seconds:.2f} s a forecast on {forecaster.device}")
    _say(f"wrote {options.output}/")


def _evaluate_dataset(options: Namespace) -> None:
    from mim3d.metrics import PerceptualDistance
    from mim3d.report.images import evaluate_images, image_score_table, write_image_evaluation

    _refuse(
        options,
        _OF_TURNED_GAS,
        "turns and mirrors gas; it is not for a --dataset of images",
    )
    forecaster = _load_model(options, _dataset_model(options))
    sequences = _open_dataset(options, forecaster)
    distance = None if options.lpips is None else PerceptualDistance.read(options.lpips)
    with _progress("scoring sequences") as progress:
        evaluation = evaluate_images(
            forecaster,
            sequences,
            steps=options.steps,
            count=options.count,
            distance=distance,
            extrapolates=options.extrapolation,
            progress=progress,
        )
    write_image_evaluation(evaluation, options.output)
    _print(image_score_table(evaluation))
    _say(
        f"{_count(evaluation.num_sequences, 'sequence')}, {evaluation.seconds:.2f} s a forecast on "
        f"{forecaster.device}; sums are over a frame, as published"
    )
    _say(f"wrote {options.output}/")


def _data(options: Namespace) -> None:
    from mim3d.data.datasets import commands

    action = options.action
    given = options[action]
    if action == "list":
        _say(commands.list_text())
    elif action == "describe":
        _say(commands.describe_text(given.name))
    elif action == "make":
        splits = {} if given.splits is None else {"splits": given.splits}
        made = commands.make(
            given.name, given.output, source=given.data, **splits, **_pairs_of_options(given.options)
        )
        _say(f"wrote {', '.join(map(str, made))}")
    elif action == "download":
        with _progress(f"downloading {given.name}") as progress:
            files = commands.download(given.name, given.output, progress)
        _say(f"there are {', '.join(map(str, files))}")
    else:
        report = commands.check(given.path, **_pairs_of_options(given.options))
        _say(report.text())
        if not report.ok:
            raise UserError(f"{given.path} is not usable as it is: {report.problems[0]}")


def _calibrate(options: Namespace) -> None:
    from mim3d.calibration import calibrate

    with _progress("forecasting") as progress:
        calibration = calibrate(
            options.model,
            options.data,
            output=options.output,
            members=options.members,
            most_runs=options.runs,
            device=options.device,
            half=options.half,
            progress=progress,
        )
    _say(
        f"guard fitted to {_count(calibration.training_runs, 'run')}, "
        f"its limits set by {_count(calibration.validation_runs, 'run')}"
    )
    if calibration.members:
        _say(f"spread calibrated with {calibration.members} members")
    if calibration.affected_threshold is not None:
        _say(
            f"gas is affected above {calibration.affected_threshold:.3g}, the best overlap to half a percent"
        )
    _say(f"wrote {options.output or options.model}")


def _convert(options: Namespace) -> None:
    from mim3d.compat import convert

    checkpoint = convert(
        options.source,
        options.target,
        patch_size=options.patch_size,
        grid=options.grid,
        average=options.average,
    )
    weights = sum(tensor.numel() for tensor in checkpoint.weights.values())
    _say(f"wrote {options.target}: {checkpoint.network}, {weights} weights")


def _info(options: Namespace) -> None:
    from mim3d.report import describe

    _print_pairs(describe(options.file))


_COMMANDS: dict[str, Callable[[Namespace], int | None]] = {
    "forecast": _forecast,
    "simulate": _simulate,
    "train": _train,
    "plan": _plan,
    "evaluate": _evaluate,
    "data": _data,
    "calibrate": _calibrate,
    "convert": _convert,
    "info": _info,
}


_TAKE_RECIPE_FLAGS = ("train", "plan")


def _all_recipe_flags(options: Namespace) -> list[str]:
    data = [] if options.data is None else [f"--data.folder={options.data}"]
    return [*options.recipe_flags, *data]


def _split_recipe_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part what is said of a recipe's keys, `--training.steps 100`, from the command's own options."""
    if not arguments or arguments[0] not in _TAKE_RECIPE_FLAGS:
        return arguments, []
    own: list[str] = []
    recipe: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, has_value, _ = argument.partition("=")
        if not (name.startswith("--") and "." in name):
            own.append(argument)
            continue
        if not has_value:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise UserError(f"{name} needs a value")
            argument = f"{name}={value}"
        recipe.append(argument)
    return own, recipe


def _pairs(flag: str, given: list[str] | None, example: str) -> dict[str, str]:
    pairs = {}
    for entry in given or []:
        name, equals, value = entry.partition("=")
        if not (name and equals and value):
            raise UserError(f"{flag} takes {example}, found {entry!r}")
        pairs[name] = value
    return pairs


def _units(given: list[str] | None) -> dict[str, str]:
    return _pairs("--units", given, "NAME=UNIT, such as density=Msun/pc3")


def _pairs_of_options(given: list[str] | None) -> dict[str, Any]:
    import yaml

    pairs = _pairs("--options", given, "NAME=VALUE, such as count=500")
    return {name: yaml.safe_load(value) for name, value in pairs.items()}


def _number_or_range(given: tuple[float, ...]) -> float | tuple[float, ...]:
    if len(given) > 2:
        raise UserError(f"--energy takes one number or two, found {len(given)}")
    return given[0] if len(given) == 1 else given


def _place(given: tuple[str, ...]) -> str | tuple[float, ...]:
    if len(given) == 1:
        return given[0]
    try:
        place = tuple(float(coordinate) for coordinate in given)
    except ValueError:
        place = ()
    if len(place) != 3:
        raise UserError(f"--site takes three numbers [pc] or the name of a place, found {' '.join(given)}")
    return place


def _plain(message: str) -> str:
    """One line of what jsonargparse says in several."""
    return " ".join(message.replace('Parser key "', 'option "').split())


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _say(line: str) -> None:
    print(line, flush=True)


def _print_pairs(lines: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        _say(f"{name:{width}}  {value}")


def _print(table: Any) -> None:
    from rich.console import Console

    Console().print(table)


def _progress(what: str) -> Any:
    """Show a bar on stderr where somebody watches."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def bar() -> Any:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(what)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return bar()


def _fail(message: str) -> int:
    print(f"mim3d: error: {' '.join(message.split())}", file=sys.stderr)
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
