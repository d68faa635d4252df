"""Scores of a model over a folder of simulated runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u

import mim3d
from mim3d.data import well
from mim3d.data.clips import find_files
from mim3d.data.files import replacing
from mim3d.errors import UserError
from mim3d.forecasting import Forecaster, load, unit_factor
from mim3d.metrics import ForecastScores
from mim3d.report.comparison import compare
from mim3d.report.folder import result_folder
from mim3d.report.run import numbers
from mim3d.report.style import FORECAST_COLOR, REFERENCE_COLOR, SIMULATION_COLOR, theme

RECORD = "evaluation.json"
"""Scores, settings and names of the files of an evaluation; marks the folder as one."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model over many runs.

    Parameters
    ----------
    model
        Its name.
    times
        Lead times `(T,)` [Myr].
    scores
        By name, `(T,)` each; see `ForecastScores.compute`.
    num_runs
        How many runs were scored.
    seconds
        Wall-clock time of one forecast, the mean.
    """

    model: str
    times: np.ndarray
    scores: dict[str, np.ndarray]
    num_runs: int
    seconds: float


def evaluate(
    model: str | Path | Forecaster,
    source: str | Path,
    *,
    steps: int | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Forecast every run of a folder from its start and score it against the simulation.

    Parameters
    ----------
    model
        Name or path of the model, or one that is loaded already.
    source
        A folder of files in The Well's layout, or one such file.
    steps
        Frames to forecast; by default as many as the first run has after the start.
    device
        Where to run the network.
    progress
        Called with the numbers of files done and to do.

    Raises
    ------
    UserError
        If a file cannot be used, or has no frame to compare with.
    """
    forecaster = model if isinstance(model, Forecaster) else load(model, device)
    files = find_files(source)
    total: ForecastScores | None = None
    times = np.zeros(0)
    seconds: list[float] = []
    for done, path in enumerate(files):
        progress(done, len(files))
        with well.open(path) as file:
            count, num_frames = file.count, file.num_frames
        if steps is None:
            steps = num_frames - forecaster.input_length
            if steps < 1:
                raise UserError(f"{path} ends where the forecast starts: nothing to compare with")
        for index in range(count):
            trajectory = well.read(path, index)
            try:
                forecast = forecaster.forecast(trajectory, steps)
                comparison = compare(forecast, trajectory)
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
            if comparison.score_sums is None:
                raise UserError(f"{path} has no density at the forecast's times to compare with")
            seconds.append(forecast.seconds)
            total = comparison.score_sums if total is None else total.merge(comparison.score_sums)
            times = (forecast.trajectory.times - forecast.initial.times[-1]) * unit_factor(
                forecast.trajectory.time_unit, u.Myr
            )
    progress(len(files), len(files))
    if total is None:
        raise UserError(f"no runs in {source}")
    return Evaluation(forecaster.name, times, total.compute(), total.num_samples, float(np.mean(seconds)))


def write_evaluation(evaluation: Evaluation, output: str | Path) -> None:
    """Write `evaluation.json` and `evaluation.png` into a folder, which appears whole.

    Raises
    ------
    UserError
        If the folder cannot be written, or holds other files.
    """
    with result_folder(output, RECORD) as folder:
        draw_evaluation(evaluation, folder / "evaluation.png")
        record: dict[str, Any] = {
            "written_by": f"mim3d {mim3d.__version__}",
            "files": sorted([path.name for path in folder.iterdir()] + [RECORD]),
            "model": evaluation.model,
            "runs": evaluation.num_runs,
            "seconds_per_forecast": evaluation.seconds,
            "times_myr": numbers(evaluation.times),
            "scores": {name: numbers(values) for name, values in evaluation.scores.items()},
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def draw_evaluation(evaluation: Evaluation, path: str | Path) -> None:
    """Write a PNG of errors and overlap against lead time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores, times = evaluation.scores, evaluation.times
    with theme(dark=False) as colors:
        figure = Figure(figsize=(10.2, 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr]
        panels = figure.subplots(1, 3)
        runs = f"{evaluation.num_runs} run" + ("s" if evaluation.num_runs != 1 else "")
        figure.suptitle(f"{evaluation.model} over {runs}", x=0.012, ha="left", fontsize=12, fontweight="bold")
        forecast = {"color": FORECAST_COLOR, "linewidth": 1.7, "marker": "o", "markersize": 3.2}
        reference = {"color": REFERENCE_COLOR, "linewidth": 1.4, "linestyle": (0, (4, 3))}
        for axes, name, title in (
            (panels[0], "mid_plane_error", "Mid-planes"),
            (panels[1], "volume_error", "Whole volume"),
        ):
            axes.plot(times, scores[f"persistence_{name}"], label="persistence", **reference)
            axes.plot(times, scores[name], label="forecast", **forecast)
            axes.set_title(title, loc="left", fontweight="bold")
            axes.set_ylabel(r"error of $\log_{10} n_{\rm H}$  [dex]")
        for name, color in (
            ("recall", SIMULATION_COLOR),
            ("precision", REFERENCE_COLOR),
            ("iou", FORECAST_COLOR),
        ):
            if np.isfinite(scores[name]).any():
                label = "IoU" if name == "iou" else name
                panels[2].plot(
                    times, scores[name], label=label, color=color, linewidth=1.7, marker="o", markersize=3.2
                )
        panels[2].set_title("Affected gas", loc="left", fontweight="bold")
        panels[2].set_ylabel("agreement with the simulation")
        panels[2].set_ylim(0, 1.02)
        for axes in panels:
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("time after the explosion  [Myr]")
            axes.grid(True, linewidth=0.6, color=colors.grid)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, loc="best")
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
