"""Teach a trained model to say when it is not to be believed, and how far off it may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mim3d import checkpoint as checkpoints
from mim3d.checkpoint import Checkpoint
from mim3d.data import affected, well
from mim3d.data.clips import Run, find_runs
from mim3d.data.splits import split_of
from mim3d.errors import UserError
from mim3d.forecasting import AFFECTED, Forecaster
from mim3d.metrics import RecallCurve
from mim3d.trust import Guard, SpreadFit, SpreadScale, fit_guard
from mim3d.trust.spread import spread_values

VALIDATION_SHARE = 0.2
"""Share of the runs that set the limits of models that do not say which they were validated on."""

_OVERLAP_SLACK = 0.005


@dataclass(frozen=True)
class Calibration:
    """A model that knows its limits, and what they were learned from.

    Parameters
    ----------
    checkpoint
        The model.
    guard
        Its guard.
    training_runs, validation_runs
        How many runs the guard was fitted to, and with how many its limits and the spread were set.
    members
        Members of the forecasts that the spread was calibrated with; 0 where it was not.
    affected_threshold
        The new threshold of affected gas; None where the model forecasts none or the runs have no twin.
    """

    checkpoint: Checkpoint
    guard: Guard
    training_runs: int
    validation_runs: int
    members: int
    affected_threshold: float | None


def calibrate(
    path: str | Path,
    source: str | Path,
    *,
    output: str | Path | None = None,
    members: int = 8,
    most_runs: int = 24,
    device: str = "auto",
    half: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Give a trained model a guard, a calibrated spread and a threshold of affected gas.

    The threshold is the one whose gas overlaps best with what is truly affected, over all lead times of the
    validation runs; or the lowest whose overlap is as good to half a percent, so that less is missed.

    Parameters
    ----------
    path
        The model's checkpoint.
    source
        The folder of runs that it was trained and validated on. The runs that its checkpoint names as
        validation set the limits; where it names none of them, a fifth of all.
    output
        Where to write the model; back to `path` where not given.
    members
        Members of the forecasts that calibrate the spread; with 1 the spread is left alone.
    most_runs
        Validation runs that are forecast, at most.
    device
        Where to run the network.
    half
        Store the weights in half precision.
    progress
        Called with the numbers of forecasts done and to do.

    Raises
    ------
    UserError
        If the model or the runs cannot be used, or the runs are not of gas.
    """
    path = Path(path)
    checkpoint = checkpoints.read(path)
    training, validation = _divide(find_runs(source), checkpoint)
    known = (*checkpoint.fields, *checkpoint.static) or ("density",)
    guard = fit_guard(training, validation, known, checkpoint.input_length or 1)
    if guard is None:
        raise UserError(f"the runs in {source} have no density of gas: a guard cannot be fitted")
    forecaster = Forecaster(replace(checkpoint, spread=None, guard=None), device, path.stem)
    spread, threshold = _judge(forecaster, validation[:most_runs], members, progress)
    provenance = dict(checkpoint.provenance)
    if threshold is not None:
        provenance["affected_threshold"] = threshold
    checkpoint = replace(
        checkpoint,
        guard=guard.to_dict(),
        spread=checkpoint.spread if spread is None else spread.to_dict(),
        provenance=provenance,
    )
    checkpoints.save(checkpoint, output or path, half=half)
    return Calibration(
        checkpoint, guard, len(training), len(validation), members if members > 1 else 0, threshold
    )


def _divide(runs: Sequence[Run], checkpoint: Checkpoint) -> tuple[list[Run], list[Run]]:
    names = set(checkpoint.provenance.get("validation_runs") or ())
    validation = [run for run in runs if run.name in names]
    if not validation and len(runs) > 1:
        parts = split_of([run.name for run in runs], (1 - VALIDATION_SHARE, VALIDATION_SHARE, 0.0), 0)
        validation = [run for run, part in zip(runs, parts, strict=True) if part == "validation"]
    training = [run for run in runs if run not in validation]
    if not training or not validation:
        raise UserError(f"{len(runs)} runs are too few to calibrate with: some to fit, others to set limits")
    return training, validation


def _judge(
    forecaster: Forecaster, runs: Sequence[Run], members: int, progress: Callable[[int, int], None]
) -> tuple[SpreadScale | None, float | None]:
    """Fit the spread of several members, where there are several, and find the threshold for a single one."""
    fit: SpreadFit | None = None
    curve: RecallCurve | None = None
    for done, run in enumerate(runs):
        progress(done, len(runs))
        trajectory = well.read(run.path, run.trajectory)
        steps = len(trajectory) - forecaster.input_length
        if steps < 1:
            raise UserError(f"{run.path} ends where the forecast starts: nothing to compare with")
        future = slice(forecaster.input_length, None)
        if AFFECTED in forecaster.channels and trajectory.twin is not None:
            true = affected(trajectory.fields["density"][future], trajectory.twin.fields["density"][future])
            curve = curve or RecallCurve.start(steps)
            curve.accumulate(forecaster.forecast(trajectory, steps).trajectory.fields[AFFECTED], true)
        if members < 2:
            continue
        forecast = forecaster.forecast(trajectory, steps, members)
        truth = forecaster.prepare(trajectory, len(trajectory)).window(
            forecaster.input_length, len(trajectory)
        )
        fit = fit or SpreadFit(steps)
        for name, spread in forecast.spread.items():
            made, true = (spread_values(name, each.channel(name)) for each in (forecast.trajectory, truth))
            fit.accumulate(name, spread, made - true, forecast.regions)
    progress(len(runs), len(runs))
    threshold = None if curve is None else curve.best_overlap(_OVERLAP_SLACK)
    if threshold is not None and np.isnan(threshold):
        threshold = None
    return None if fit is None else fit.compute(), threshold
