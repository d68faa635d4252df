"""Scores of a model over a data set of images, per lead time, beside persistence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mim3d
from mim3d.data.files import replacing
from mim3d.data.sequences import Sequences
from mim3d.errors import UserError
from mim3d.forecasting import Forecaster
from mim3d.metrics import (
    EventScores,
    LearnedPerceptualSimilarity,
    MeanAbsoluteError,
    MeanScore,
    MeanSquaredError,
    PerceptualDistance,
    VideoScores,
    extrapolate_echoes,
)
from mim3d.report.folder import check_result_folder, result_folder
from mim3d.report.images.forecast import ImageForecast, forecast_images
from mim3d.report.run import numbers
from mim3d.report.style import FORECAST_COLOR, REFERENCE_COLOR, SIMULATION_COLOR, theme

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

RECORD = "evaluation.json"

PERSISTENCE, EXTRAPOLATION = "persistence_", "extrapolation_"
"""What the names of the references' scores begin with."""


@dataclass(frozen=True)
class ImageEvaluation:
    """Scores of a model over the sequences of one split of a data set.

    Parameters
    ----------
    model, dataset, split
        Names.
    num_sequences
        How many were scored.
    times, time_unit
        Lead times `(T,)`.
    unit
        Of the scores whose names begin with `physical_`; empty where values are plain numbers.
    thresholds
        Events that were scored, in that unit.
    scores
        By name, `(T,)` each, see `VideoScores.compute` and `EventScores.compute`; `lpips`, where its weights
        were given. Names of the references' scores begin with `persistence_` and `extrapolation_`.
    pooled
        Scores of events over all lead times together.
    seconds
        Wall-clock time of one forecast, the mean.
    """

    model: str
    dataset: str
    split: str
    num_sequences: int
    times: np.ndarray
    time_unit: str
    unit: str
    thresholds: tuple[float, ...]
    scores: dict[str, np.ndarray]
    seconds: float
    pooled: Mapping[str, float] = field(default_factory=dict)


def evaluate_images(
    forecaster: Forecaster,
    sequences: Sequences,
    *,
    steps: int | None = None,
    count: int | None = None,
    distance: PerceptualDistance | None = None,
    extrapolates: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImageEvaluation:
    """Forecast the sequences of a data set and score them.

    Parameters
    ----------
    forecaster
        The model.
    sequences
        One split of a data set.
    steps
        Frames to forecast; as many as the sequences have by default.
    count
        Score so many sequences only, spread evenly over all.
    distance
        Score LPIPS, too, with this network.
    extrapolates
        Score the extrapolation of radar echoes, too, see `extrapolate_echoes`.
    progress
        Called with the numbers of sequences done and to do.

    Raises
    ------
    UserError
        If model and data set do not fit together, or one of the scores is not for such data.
    """
    if extrapolates and sequences.dataset != "radar":
        raise UserError(f"the extrapolation is a reference for radar images, not for {sequences.name}")
    total = len(sequences)
    chosen = np.unique(np.linspace(0, total - 1, min(count or total, total)).astype(int)).tolist()
    lead_times = steps or sequences.num_frames - sequences.input_length
    sums = {"": _Scores(sequences, lead_times, distance)}
    if extrapolates:
        sums[EXTRAPOLATION] = _Scores(sequences, lead_times, distance)
    seconds = []
    progress(0, len(chosen))
    for done, forecast in enumerate(forecast_images(forecaster, sequences, chosen, steps), 1):
        sums[""].accumulate(forecast)
        if extrapolates:
            moved = extrapolate_echoes(forecast.given[:, 0], len(forecast.forecast))[:, None]
            sums[EXTRAPOLATION].accumulate(replace(forecast, forecast=moved))
        seconds.append(forecast.seconds)
        progress(done, len(chosen))
    return ImageEvaluation(
        model=forecaster.name,
        dataset=sequences.name,
        split=sequences.split,
        num_sequences=len(chosen),
        times=sequences.time_step * np.arange(1, lead_times + 1),
        time_unit=sequences.time_unit,
        unit=sequences.unit,
        thresholds=sequences.thresholds,
        scores=_named({who: own.compute() for who, own in sums.items()}),
        seconds=float(np.mean(seconds)),
        pooled=_named({who: own.events.pooled() for who, own in sums.items() if own.events is not None}),
    )


def _named(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put the scores of the forecast and of other references together; all have the same persistence."""
    return {
        who + name: value
        for who, own in scores.items()
        for name, value in own.items()
        if not (who and name.startswith(PERSISTENCE))
    }


class _Scores:
    """Scores of scaled frames, and, where values have a unit, of those in it."""

    def __init__(
        self, sequences: Sequences, num_frames: int, distance: PerceptualDistance | None = None
    ) -> None:
        low, high = sequences.value_range
        self.video = VideoScores.start(num_frames, high - low)
        self.events = EventScores.start(num_frames, sequences.thresholds) if sequences.thresholds else None
        self.scaled: dict[str, MeanScore] = {}
        self.physical: dict[str, MeanScore] = {}
        for who in ("", PERSISTENCE):
            if distance is not None:
                self.scaled[f"{who}lpips"] = LearnedPerceptualSimilarity.start(
                    num_frames, distance, sequences.value_range
                )
            if sequences.unit:
                self.physical[f"{who}physical_mse"] = MeanSquaredError.start(num_frames)
                self.physical[f"{who}physical_mae"] = MeanAbsoluteError.start(num_frames)

    def accumulate(self, one: ImageForecast) -> None:
        last = one.given[-1]
        self.video.accumulate(one.forecast, one.truth, last)
        _accumulate(self.scaled, one.forecast, one.truth, last)
        if not (self.physical or self.events):
            return
        forecast, truth = one.physical(one.forecast), one.physical(one.truth)
        kept = one.physical(last)
        if self.events is not None:
            self.events.accumulate(forecast, truth, kept)
        _accumulate(self.physical, forecast, truth, kept)

    def compute(self) -> dict[str, np.ndarray]:
        others = {name: score.compute() for name, score in (self.scaled | self.physical).items()}
        scores = self.video.compute() | others
        return scores if self.events is None else scores | self.events.compute()


def _accumulate(
    scores: Mapping[str, MeanScore], forecast: np.ndarray, truth: np.ndarray, kept: np.ndarray
) -> None:
    for name, score in scores.items():
        persists = name.startswith(PERSISTENCE)
        score.accumulate(np.broadcast_to(kept, truth.shape) if persists else forecast, truth)


def image_score_table(evaluation: ImageEvaluation) -> Group:
    """Lay out the scores, one lead time a row, the mean over the lead times last, references in brackets.

    Scores in the data set's unit and of events follow in a table of their own.
    """
    from rich.console import Group

    general = [
        ("summed_squared_error", "MSE\nsum", ".4g", True),
        ("summed_absolute_error", "MAE\nsum", ".4g", True),
        ("mse", "MSE\nmean", ".3g", False),
        ("mae", "MAE\nmean", ".3g", False),
        ("psnr", "PSNR\n[dB]", ".2f", False),
        ("ssim", "SSIM", ".3f", True),
        ("lpips", "LPIPS", ".3f", True),
    ]
    of_unit = [("physical_mae", f"MAE [{evaluation.unit}]", ".3g", True)] if evaluation.unit else []
    of_unit += [(f"csi_{t:g}", f"CSI {t:g} {evaluation.unit}", ".3f", True) for t in evaluation.thresholds]
    tables = [_table(evaluation, columns) for columns in (general, of_unit) if columns]
    legend = "in brackets: persistence, which keeps the last frame that was given"
    if _has_extrapolation(evaluation):
        legend += "; extrapolation, which moves it on"
    return Group(*tables, legend)


def _has_extrapolation(evaluation: ImageEvaluation) -> bool:
    return any(name.startswith(EXTRAPOLATION) for name in evaluation.scores)


def _table(evaluation: ImageEvaluation, columns: list[tuple[str, str, str, bool]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    columns = [column for column in columns if _is_known(evaluation, column[0])]
    references = [PERSISTENCE, *([EXTRAPOLATION] if _has_extrapolation(evaluation) else [])]
    table.add_column(f"time\n\\[{evaluation.time_unit}]", justify="right")
    for _, heading, _, _ in columns:
        table.add_column(heading.replace("[", r"\["), justify="right")
    rows = [(f"{time:g}", lambda values, k=k: values[k]) for k, time in enumerate(evaluation.times)]
    for number, (name, value) in enumerate([*rows, ("mean", np.mean)]):
        if number == len(rows):
            table.add_section()
        cells = []
        for score, _, style, beside in columns:
            cell = _cell(float(value(evaluation.scores[score])), style)
            if beside:
                others = [float(value(evaluation.scores[who + score])) for who in references]
                # Two references are too wide for one line.
                cell += " " if len(others) == 1 else "\n"
                cell += f"({'; '.join(_cell(other, style) for other in others)})"
            cells.append(cell)
        table.add_row(name, *cells)
    return table


def _is_known(evaluation: ImageEvaluation, score: str) -> bool:
    return score in evaluation.scores and bool(np.isfinite(evaluation.scores[score]).any())


def _cell(value: float, style: str) -> str:
    return format(float(value), style) if np.isfinite(value) else "–"


def write_image_evaluation(evaluation: ImageEvaluation, output: str | Path) -> None:
    """Write `evaluation.json` and `evaluation.png` into a folder, which appears whole.

    Raises
    ------
    UserError
        If the folder cannot be written, or holds other files.
    """
    check_result_folder(output, RECORD)
    with result_folder(output, RECORD) as folder:
        _draw(evaluation, folder / "evaluation.png")
        record: dict[str, Any] = {
            "written_by": f"mim3d {mim3d.__version__}",
            "files": ["evaluation.png", RECORD],
            "model": evaluation.model,
            "dataset": evaluation.dataset,
            "split": evaluation.split,
            "sequences": evaluation.num_sequences,
            "seconds_per_forecast": evaluation.seconds,
            "times": numbers(evaluation.times),
            "time_unit": evaluation.time_unit,
            "unit": evaluation.unit,
            "scores": {name: numbers(values) for name, values in evaluation.scores.items()},
            "mean_scores": {
                name: numbers(np.array([values.mean()]))[0] for name, values in evaluation.scores.items()
            },
            "pooled_scores": {
                name: numbers(np.array([value]))[0] for name, value in evaluation.pooled.items()
            },
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _draw(evaluation: ImageEvaluation, path: Path) -> None:
    """Write a PNG of the scores against lead time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        ("summed_squared_error", "MSE, summed over a frame"),
        ("psnr", "PSNR  [dB]"),
        ("ssim", "SSIM"),
        ("lpips", "LPIPS"),
    ]
    if evaluation.unit:
        panels.append(("physical_mae", f"MAE  [{evaluation.unit}]"))
    panels += [(f"csi_{t:g}", f"CSI at {t:g} {evaluation.unit}".strip()) for t in evaluation.thresholds]
    panels = [panel for panel in panels if _is_known(evaluation, panel[0])]
    with theme(dark=False) as colors:
        rows = -(-len(panels) // 4)
        columns = -(-len(panels) // rows)
        figure = Figure(figsize=(2.9 * max(columns, 2) + 0.3, 0.3 + 2.9 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        count = evaluation.num_sequences
        figure.suptitle(
            f"{evaluation.model} on {evaluation.dataset}, {count} {evaluation.split} sequence"
            + ("s" if count != 1 else ""),
            x=0.012,
            ha="left",
            fontsize=11,
            fontweight="bold",
        )
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, (name, title) in zip(grid, panels, strict=False):
            for who, color in ((PERSISTENCE, REFERENCE_COLOR), (EXTRAPOLATION, SIMULATION_COLOR)):
                if _is_known(evaluation, who + name):
                    axes.plot(
                        evaluation.times,
                        evaluation.scores[who + name],
                        label=who.removesuffix("_"),
                        color=color,
                        linestyle=(0, (4, 3)),
                        linewidth=1.4,
                    )
            axes.plot(
                evaluation.times,
                evaluation.scores[name],
                label="forecast",
                color=FORECAST_COLOR,
                marker="o",
                markersize=3.2,
                linewidth=1.7,
            )
            axes.set_title(title, loc="left")
            axes.set_xlabel(f"lead time  [{evaluation.time_unit}]")
            axes.set_xlim(left=0)
            if name != "psnr":
                axes.set_ylim(bottom=min(0, axes.get_ylim()[0]) if name == "ssim" else 0)
            axes.grid(True, linewidth=0.6, color=colors.grid)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, loc="best")
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=140)
