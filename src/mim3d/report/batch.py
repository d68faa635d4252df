"""A folder of files in, a forecast of each out: restartable, on many processes or machines."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mim3d import data
from mim3d.checkpoint import bundled_models
from mim3d.data import well
from mim3d.errors import UserError
from mim3d.forecasting import Forecaster, best_model, load
from mim3d.inputs import fields_in, read_input
from mim3d.jobs import claim_folder, progress_bar, run_jobs
from mim3d.machine import MemoryFormat, Precision
from mim3d.report.run import write_affected_particles

RECORD = "forecasts.json"
"""What the forecasts of a folder were made with."""

SUFFIXES = (".h5", ".hdf5", ".npz")
"""Names of files that a folder may hold to be forecast."""


@dataclass(frozen=True)
class BatchSettings:
    """How every file of a folder is forecast.

    Parameters
    ----------
    model
        Name or path of the model.
    steps
        Frames to forecast.
    device, precision, memory_format
        Where each process runs the network, and how; see `mim3d.load`.
    center, box, energy, units
        See `mim3d.inputs.read_input`.
    members
        See `mim3d.forecasting.Forecaster.forecast`.
    """

    model: str
    steps: int = 19
    device: str = "auto"
    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    center: tuple[float, ...] | None = None
    box: float | None = None
    energy: float | None = None
    units: Mapping[str, str] | None = None
    members: int = 1


@dataclass(frozen=True)
class BatchResult:
    """What became of a folder's files.

    Parameters
    ----------
    made
        Files that were forecast now.
    kept
        Files whose forecast was there already.
    failed
        By file, why it could not be forecast.
    untrusted
        Files that were forecast now and whose gas is not known to be like the training's.
    seconds
        Wall-clock time of all.
    """

    made: int
    kept: int
    failed: dict[str, str]
    untrusted: list[str]
    seconds: float


def forecast_folder(
    folder: str | Path,
    output: str | Path,
    settings: BatchSettings,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> BatchResult:
    """Forecast every file of a folder that is not forecast yet.

    `output` gets a file in The Well's layout for each, with as many runs as the input has; beside it, for
    particles, `NAME.affected_particles.h5`. A forecast appears under its name once it is whole: a batch that
    was stopped, or lost a worker, goes on and does nothing twice that was finished.

    Parameters
    ----------
    folder
        Holds `*.h5`, `*.hdf5` and `*.npz`.
    output
        Folder to write, made if it is not there.
    settings
        How to forecast.
    workers
        Processes on this machine; one where not given.
    scheduler
        Address of a Dask scheduler (`tcp://host:port`) whose workers see the same folders; instead of
        `workers`.

    Returns
    -------
    BatchResult
        A file that cannot be forecast does not stop the others.

    Raises
    ------
    UserError
        If there is nothing to forecast, the model cannot be used, or `output` holds forecasts of other
        settings.
    """
    sources = _sources(Path(folder))
    output = Path(output)
    if output.resolve() == Path(folder).resolve():
        raise UserError(f"{output} holds the files that are to be forecast; choose another --output")
    if settings.model == "auto":
        settings = BatchSettings(**{**vars(settings), "model": best_model(fields_in(sources[0]))})
    settings = BatchSettings(**{**vars(settings), "model": _anywhere(settings.model)})
    # A model that cannot be used is one error here, not one for each file.
    device = "cpu" if scheduler else settings.device
    _forecaster(settings.model, device, settings.precision, settings.memory_format)
    claim_folder(output, RECORD, _described(settings), "other forecasts")
    targets = {source: _target(source, output) for source in sources}
    missing = [source for source, target in targets.items() if not target.exists()]
    console = Console(stderr=True)
    began = time.perf_counter()
    failed: dict[str, str] = {}
    untrusted: list[str] = []
    forecast = functools.partial(_forecast_source, settings=settings, output=str(output.resolve()))
    workers = min(workers or 1, len(missing))
    with progress_bar(console, "files") as progress:
        kept = len(sources) - len(missing)
        task = progress.add_task("forecasting", total=len(sources), completed=kept)
        paths = [str(source.absolute()) for source in missing]
        alone = scheduler is None and workers <= 1
        outcomes = (
            map(forecast, paths) if alone else run_jobs(forecast, paths, workers=workers, scheduler=scheduler)
        )
        for path, reason, is_trusted in outcomes:
            if reason is not None:
                failed[Path(path).name] = reason
            elif not is_trusted:
                untrusted.append(Path(path).name)
            progress.advance(task)
    return BatchResult(len(missing) - len(failed), kept, failed, untrusted, time.perf_counter() - began)


def _sources(folder: Path) -> list[Path]:
    # Hidden names are what a writer has not finished.
    found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")
    if not found:
        raise UserError(
            f"the folder {folder} holds no {', '.join(f'*{suffix}' for suffix in SUFFIXES)} files"
        )
    seen: dict[str, Path] = {}
    for path in found:
        if path.stem in seen:
            raise UserError(f"{seen[path.stem]} and {path} would be forecast into the same file; rename one")
        seen[path.stem] = path
    return found


def _target(source: Path, output: Path) -> Path:
    return output / f"{source.stem}.h5"


def _anywhere(model: str) -> str:
    """Make a path absolute, for workers that run in other folders."""
    is_bundled = model in [path.stem for path in bundled_models()]
    return model if is_bundled else str(Path(model).resolve())


def _described(settings: BatchSettings) -> dict[str, object]:
    """All that a forecast depends on: a model by its content, not by where and how it runs."""
    described = {**vars(settings), "model": Path(settings.model).name}
    del described["device"], described["memory_format"]
    path = Path(settings.model)
    if path.is_file():
        described["model_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return described


@functools.lru_cache(maxsize=1)
def _forecaster(model: str, device: str, precision: Precision, memory_format: MemoryFormat) -> Forecaster:
    """Load the model once in every process."""
    return load(model, device, precision, memory_format)


def _forecast_source(path: str, settings: BatchSettings, output: str) -> tuple[str, str | None, bool]:
    """Forecast one file, the work that a worker gets; return it, why it failed, whether to trust it."""
    source, target = Path(path), _target(Path(path), Path(output))
    forecaster = _forecaster(settings.model, settings.device, settings.precision, settings.memory_format)
    try:
        forecasts = []
        for index in range(_count(source)):
            gas = read_input(
                source,
                forecaster.checkpoint,
                index=index,
                center=settings.center,
                box=settings.box,
                energy=settings.energy,
                units=settings.units,
            )
            forecasts.append(forecaster.forecast(gas.trajectory, settings.steps, members=settings.members))
            if gas.particles is not None:
                particles = target.with_name(f"{target.stem}.affected_particles.h5")
                write_affected_particles(forecasts[-1], gas.particles, particles)
        # Last, because its presence says that the file is done.
        well.write(target, [forecast.trajectory for forecast in forecasts], dataset_name="mim3d_forecast")
    except UserError as error:
        return path, str(error), False
    return path, None, all(forecast.is_trusted for forecast in forecasts)


def _count(source: Path) -> int:
    """Count the runs of a file."""
    counts: dict[str, Callable[[], int]] = {
        "well": lambda: well.count(source),
        "original": lambda: len(data.original.read(source)),
        "snapshot": lambda: 1,
    }
    return counts[data.kind(source)]()


def batch_lines(result: BatchResult, output: str | Path) -> list[str]:
    """Say what was done, how fast, and what could not be."""
    lines = []
    if result.kept:
        lines.append(f"{result.kept} were forecast already")
    if result.made:
        rate = result.made / result.seconds
        lines.append(
            f"{result.made} forecast in {result.seconds:.1f} s, {rate:.3g} a second, in {os.fspath(output)}/"
        )
    lines += [f"{name}: not known to be gas like the training's" for name in result.untrusted]
    lines += [f"{name}: {reason}" for name, reason in result.failed.items()]
    return lines
