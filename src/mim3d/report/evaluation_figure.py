"""The figure of an evaluation: every kind of score against lead time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mim3d.data.files import replacing
from mim3d.report.style import FORECAST_COLOR, REFERENCE_COLOR, SIMULATION_COLOR, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mim3d.report.evaluation import Evaluation

_FIELD_COLORS = (FORECAST_COLOR, SIMULATION_COLOR, "#7a5195", "#c99700", REFERENCE_COLOR)
_PERCENT = 100.0


def draw_evaluation(evaluation: Evaluation, path: str | Path) -> None:
    """Write a PNG of all scores against lead time; bands hold two thirds of the runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with theme(dark=False) as colors:
        panels = [draw for draw, is_known in _panels(evaluation) if is_known]
        rows = -(-len(panels) // 4)
        columns = -(-len(panels) // rows)
        figure = Figure(figsize=(3.45 * columns, 0.5 + 3.4 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr]
        runs = f"{evaluation.num_runs} run" + ("s" if evaluation.num_runs != 1 else "")
        title = f"{evaluation.model} over {runs} of {evaluation.source}"
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, draw in zip(grid, panels, strict=False):
            axes.set_xlim(0, 1.02 * float(evaluation.times[-1]))
            axes.set_xlabel("time after the explosion  [Myr]")
            draw(axes)
            axes.set_ylim(bottom=0)
            axes.grid(True, linewidth=0.6, color=colors.grid)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_legend_handles_labels()[0]:
                # Below, where no curve can be: some panels are full of them.
                axes.legend(
                    loc="upper center",
                    bbox_to_anchor=(0.5, -0.18),
                    ncols=2,
                    frameon=False,
                    labelspacing=0.3,
                    columnspacing=1.2,
                    handlelength=1.8,
                )
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130)


def _panels(evaluation: Evaluation) -> list[tuple[Any, bool]]:
    """Return what draws each panel, and whether there is anything to draw."""
    scores = evaluation.scores

    def known(*names: str) -> bool:
        return any(name in scores and bool(np.isfinite(scores[name]).any()) for name in names)

    lines = _Lines(evaluation)
    vrmse = [
        name
        for name in scores
        if name.startswith("vrmse_") and not (name[-2:] in ("_x", "_y", "_z") and name[:-2] in scores)
    ]
    return [
        (lambda axes: _errors(axes, lines, "mid_plane", "Mid-planes"), known("mid_plane_error")),
        (lambda axes: _errors(axes, lines, "volume", "Whole volume"), known("volume_error")),
        (lambda axes: _affected(axes, lines), known("iou")),
        (lambda axes: _remnant(axes, lines), known("shell_radius_error")),
        (lambda axes: _anisotropy(axes, lines), known("shell_quadrupole")),
        (lambda axes: _vrmse(axes, lines, vrmse), known(*vrmse)),
        (
            lambda axes: _budgets(axes, lines),
            known("mass_error", "thermal_energy_error", "radial_momentum_error"),
        ),
        (lambda axes: _statistics(axes, lines), known("density_distribution_distance")),
        (lambda axes: _reliability(axes, evaluation), bool(evaluation.reliability)),
    ]


class _Lines:
    """Draws scores against lead time, with their spread over runs."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.times = evaluation.times
        self.scores = evaluation.scores
        self.spread = evaluation.sums.spread() if evaluation.num_runs > 1 else {}

    def add(
        self, axes: Axes, name: str, label: str, color: str, *, dashed: bool = False, factor: float = 1.0
    ) -> None:
        """Draw one score, if it is known anywhere."""
        values = self.scores.get(name)
        if values is None or not np.isfinite(values).any():
            return
        style: dict[str, Any] = (
            {"linewidth": 1.4, "linestyle": (0, (4, 3))}
            if dashed
            else {"linewidth": 1.7, "marker": "o", "markersize": 2.8}
        )
        axes.plot(self.times, factor * values, label=label, color=color, **style)
        if name in self.spread and not dashed:
            low, high = self.spread[name]
            axes.fill_between(self.times, factor * low, factor * high, color=color, alpha=0.15, linewidth=0)


def _title(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_ylabel(label)


def _errors(axes: Axes, lines: _Lines, stem: str, title: str) -> None:
    lines.add(axes, f"persistence_{stem}_error", "persistence", REFERENCE_COLOR, dashed=True)
    lines.add(axes, f"{stem}_error", "forecast", FORECAST_COLOR)
    lines.add(axes, f"drift_{stem}_error", "drift without explosion", SIMULATION_COLOR, dashed=True)
    _title(axes, title, r"error of $\log_{10} n_{\rm H}$  [dex]")


def _affected(axes: Axes, lines: _Lines) -> None:
    lines.add(axes, "recall", "recall", SIMULATION_COLOR)
    lines.add(axes, "precision", "precision", REFERENCE_COLOR)
    lines.add(axes, "iou", "IoU", FORECAST_COLOR)
    lines.add(axes, "missed_mass", "missed mass", "#7a5195")
    lines.add(axes, "safe_precision", "precision at recall 0.99", "#c99700", dashed=True)
    lines.add(axes, "depleted_iou", "IoU, density fell > 10 %", FORECAST_COLOR, dashed=True)
    _title(axes, "Affected gas", "share")
    axes.set_ylim(top=1.02)


def _remnant(axes: Axes, lines: _Lines) -> None:
    lines.add(axes, "shell_radius_error", "mean radius", FORECAST_COLOR, factor=_PERCENT)
    lines.add(axes, "shell_ray_error", "wall, ray by ray", SIMULATION_COLOR, factor=_PERCENT)
    lines.add(axes, "cavity_volume_error", "cavity volume", "#7a5195", factor=_PERCENT)
    lines.add(axes, "sedov_radius_error", "shock against Sedov", "#c99700", factor=_PERCENT)
    _title(axes, "Shell and cavity", "deviation  [%]")
    # The first frames, where a cavity has a handful of voxels, would hide the rest.
    axes.set_ylim(top=min(axes.get_ylim()[1], 60))


def _anisotropy(axes: Axes, lines: _Lines) -> None:
    lines.add(axes, "simulation_shell_quadrupole", "quadrupole, simulation", SIMULATION_COLOR)
    lines.add(axes, "shell_quadrupole", "quadrupole, forecast", FORECAST_COLOR)
    _title(axes, "Anisotropy and thickness", "rms quadrupole of radius / mean radius")
    right = axes.twinx()
    right.spines[["top", "left"]].set_visible(False)
    for name, label, color in (
        ("simulation_shell_thickness", "thickness, simulation", SIMULATION_COLOR),
        ("shell_thickness", "thickness, forecast", FORECAST_COLOR),
    ):
        lines.add(right, name, label, color, dashed=True)
        axes.plot([], [], label=label, color=color, linewidth=1.4, linestyle=(0, (4, 3)))
    right.set_ylim(bottom=0)
    right.set_ylabel("thickness  [pc]")


def _vrmse(axes: Axes, lines: _Lines, names: list[str]) -> None:
    for name, color in zip(names, _FIELD_COLORS, strict=False):
        field = name.removeprefix("vrmse_")
        lines.add(axes, name, f"{field}, rollout", color)
        lines.add(axes, f"one_step_{name}", f"{field}, one step", color, dashed=True)
    _title(axes, "VRMSE", "1: as good as the mean")


def _budgets(axes: Axes, lines: _Lines) -> None:
    lines.add(axes, "mass_error", "mass", REFERENCE_COLOR, factor=_PERCENT)
    lines.add(axes, "thermal_energy_error", "thermal energy", FORECAST_COLOR, factor=_PERCENT)
    lines.add(axes, "radial_momentum_error", "radial momentum", SIMULATION_COLOR, factor=_PERCENT)
    _title(axes, "Budgets of the explosion", "deviation from the simulation  [%]")


def _statistics(axes: Axes, lines: _Lines) -> None:
    lines.add(axes, "density_distribution_distance", "distribution of density", FORECAST_COLOR)
    lines.add(axes, "power_spectrum_error", "power spectrum", SIMULATION_COLOR)
    _title(axes, "Statistics of the density", "distance from the simulation  [dex]")


def _reliability(axes: Axes, evaluation: Evaluation) -> None:
    axes.plot([0, 1], [0, 1], label="calibrated", color=REFERENCE_COLOR, linewidth=1.4, linestyle=(0, (4, 3)))
    for (name, coverage), color in zip(evaluation.coverage().items(), _FIELD_COLORS, strict=False):
        axes.plot(
            coverage.levels,
            coverage.shares[:, 0],
            label=name,
            color=color,
            linewidth=1.7,
            marker="o",
            markersize=2.8,
        )
    _title(axes, "Reliability of intervals", "share of the truth that they hold")
    axes.set_xlim(0, 1)
    axes.set_ylim(top=1)
    axes.set_xlabel("share that they are meant to hold")
