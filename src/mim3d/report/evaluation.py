"""Scores of a model over folders of simulated runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u

import mim3d
from mim3d.data import well
from mim3d.data.clips import find_files
from mim3d.errors import UserError
from mim3d.fields import unit_factor
from mim3d.forecasting import Forecaster, best_model, load
from mim3d.inputs import fields_in
from mim3d.metrics import Coverage, ForecastScores, Reliability
from mim3d.report.comparison import Comparison, compare
from mim3d.report.evaluation_figure import draw_evaluation
from mim3d.report.folder import result_folder
from mim3d.report.run import numbers
from mim3d.resimulation import Resimulation
from mim3d.trust import Verdict
from mim3d.trust.guard import bad_forecasts

RECORD = "evaluation.json"
"""Scores, settings and names of the files of an evaluation; marks the folder as one."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model over many runs.

    Parameters
    ----------
    model
        Its name.
    source
        Name of the folder, or file, of the runs.
    times
        Lead times `(T,)` [Myr].
    sums
        The scores of every run.
    runs
        Names of the runs, in their order.
    seconds
        Wall-clock time of one forecast, the mean.
    verdicts
        What the model's guard says of every run; empty without a guard.
    reliability
        By channel, how much of the truth the forecasts' intervals hold; empty for forecasts of one member.
    """

    model: str
    source: str
    times: np.ndarray
    sums: ForecastScores
    runs: tuple[str, ...]
    seconds: float
    verdicts: tuple[Verdict, ...] = ()
    reliability: Mapping[str, Reliability] = field(default_factory=dict)

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """By name, `(T,)` each; see `ForecastScores.compute`."""
        return self.sums.compute()

    @property
    def num_runs(self) -> int:
        """How many runs were scored."""
        return len(self.runs)

    @property
    def num_flagged(self) -> int:
        """How many runs the guard says are outside of the training range."""
        return sum(not verdict.is_inside for verdict in self.verdicts)

    @property
    def last_errors(self) -> np.ndarray:
        """Mid-plane error of every run at the last lead time [dex]; forecasts are good or bad by it."""
        return self.sums.of_runs()["mid_plane_error"][:, -1]

    def coverage(self) -> dict[str, Coverage]:
        """Return what the forecasts' intervals hold over all lead times, by channel."""
        return {name: score.overall() for name, score in self.reliability.items()}


def best_model_of_runs(source: str | Path) -> str:
    """Name the bundled model that makes most of what the first run of a folder holds.

    Raises
    ------
    UserError
        If there is no run, or no bundled model.
    """
    return best_model(fields_in(find_files(source)[0]))


def evaluate(
    model: str | Path | Forecaster | Resimulation,
    source: str | Path,
    *,
    steps: int | None = None,
    members: int = 1,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Forecast every run of a folder from its start and score it against the simulation.

    Parameters
    ----------
    model
        Name or path of the model, or one that is loaded already, or the gas solver in its place.
    source
        A folder of files in The Well's layout, or one such file.
    steps
        Frames to forecast; by default as many as the first run has after the start.
    members
        See `Forecaster.forecast`.
    device
        Where to run the network.
    progress
        Called with the numbers of files done and to do.

    Raises
    ------
    UserError
        If a file cannot be used, or has no frame to compare with.
    """
    forecaster = load(model, device) if isinstance(model, str | Path) else model
    files = find_files(source)
    total: ForecastScores | None = None
    times = np.zeros(0)
    seconds: list[float] = []
    names: list[str] = []
    verdicts: list[Verdict] = []
    reliability: dict[str, Reliability] = {}
    for done, path in enumerate(files):
        progress(done, len(files))
        with well.open(path) as file:
            count, num_frames = file.count, file.num_frames
        if steps is None:
            steps = num_frames - forecaster.input_length
            if steps < 1:
                raise UserError(f"{path} ends where the forecast starts: nothing to compare with")
        for index in range(count):
            comparison = _score(forecaster, path, index, steps, members)
            assert comparison.score_sums is not None
            forecast = comparison.forecast
            seconds.append(forecast.seconds)
            if forecast.verdict is not None:
                verdicts.append(forecast.verdict)
            for name, score in comparison.reliability.items():
                reliability[name] = reliability[name].merge(score) if name in reliability else score
            names.append(path.name if count == 1 else f"{path.name}#{index}")
            total = comparison.score_sums if total is None else total.merge(comparison.score_sums)
            times = (forecast.trajectory.times - forecast.initial.times[-1]) * unit_factor(
                forecast.trajectory.time_unit, u.Myr
            )
    progress(len(files), len(files))
    if total is None:
        raise UserError(f"no runs in {source}")
    folder = Path(source)
    return Evaluation(
        model=forecaster.name,
        source=folder.name or str(folder),
        times=times,
        sums=total,
        runs=tuple(names),
        seconds=float(np.mean(seconds)),
        verdicts=tuple(verdicts),
        reliability=reliability,
    )


def _score(
    forecaster: Forecaster | Resimulation, path: Path, index: int, steps: int, members: int
) -> Comparison:
    trajectory = well.read(path, index)
    try:
        forecast = forecaster.forecast(trajectory, steps, members)
        comparison = compare(forecast, trajectory, forecaster.one_step(trajectory, steps))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if comparison.score_sums is None:
        raise UserError(f"{path} has no density at the forecast's times to compare with")
    return comparison


def write_evaluation(evaluations: Sequence[Evaluation], output: str | Path) -> None:
    """Write `evaluation.json`, `evaluation.png`, `scores.csv` and `runs.csv` into a folder.

    The folder appears whole. `scores.csv` has a row for every set and lead time, `runs.csv` one for every
    run, with its scores at the last lead time.

    Parameters
    ----------
    evaluations
        Of one model over one or more sets; the figure shows the first.
    output
        The folder.

    Raises
    ------
    UserError
        If the folder cannot be written, or holds other files.
    """
    with result_folder(output, RECORD) as folder:
        draw_evaluation(evaluations[0], folder / "evaluation.png")
        _write_csv(folder / "scores.csv", (row for each in evaluations for row in _score_rows(each)))
        _write_csv(folder / "runs.csv", (row for each in evaluations for row in _run_rows(each)))
        record: dict[str, Any] = {
            "written_by": f"mim3d {mim3d.__version__}",
            "files": sorted([path.name for path in folder.iterdir()] + [RECORD]),
            "model": evaluations[0].model,
            **_describe(evaluations[0]),
            "sets": [_describe(each) | _guarded(each, evaluations[0]) for each in evaluations],
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _guarded(evaluation: Evaluation, ordinary: Evaluation) -> dict[str, Any]:
    """How many runs the guard flags, and how many of the bad forecasts, measured by the ordinary ones."""
    if not evaluation.verdicts:
        return {}
    is_bad = bad_forecasts(evaluation.last_errors, ordinary.last_errors)
    is_flagged = np.array([not verdict.is_inside for verdict in evaluation.verdicts])
    return {
        "guard": {
            "flagged": int(is_flagged.sum()),
            "bad_forecasts": int(is_bad.sum()),
            "bad_forecasts_flagged": int((is_bad & is_flagged).sum()),
        }
    }


def _describe(evaluation: Evaluation) -> dict[str, Any]:
    threshold, precision = evaluation.sums.safe_threshold()
    return {
        "source": evaluation.source,
        "runs": evaluation.num_runs,
        "seconds_per_forecast": evaluation.seconds,
        "times_myr": numbers(evaluation.times),
        "scores": {name: numbers(values) for name, values in evaluation.scores.items()},
        "spread_over_runs": {
            name: {"percentile_16": numbers(spread.low), "percentile_84": numbers(spread.high)}
            for name, spread in evaluation.sums.spread().items()
        },
        "vrmse": {
            name: dict(zip(table, numbers(np.array(list(table.values()))), strict=True))
            for name, table in evaluation.sums.rollout_vrmse().items()
        },
        "affected_recall_99": dict(
            zip(("threshold", "precision"), numbers(np.array([threshold, precision])), strict=True)
        ),
        "coverage": {
            name: {
                f"{level:.0%}": share
                for level, share in zip(known.levels, numbers(known.shares[:, 0]), strict=True)
            }
            for name, known in evaluation.coverage().items()
        },
    }


def _score_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for lead, time in enumerate(evaluation.times):
        row = {"set": evaluation.source, "time_myr": f"{time:.6g}"}
        yield row | {name: _cell(values[lead]) for name, values in evaluation.scores.items()}


def _run_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    scores = evaluation.sums.of_runs()
    for number, name in enumerate(evaluation.runs):
        row = {"set": evaluation.source, "run": name}
        if evaluation.verdicts:
            verdict = evaluation.verdicts[number]
            row |= {
                "guard": "inside" if verdict.is_inside else "outside",
                "guard_score": _cell(verdict.score),
                "guard_reasons": "; ".join(verdict.reasons),
            }
        yield row | {name: _cell(values[number, -1]) for name, values in scores.items()}


def _cell(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    table = list(rows)
    columns = dict.fromkeys(name for row in table for name in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(table)
