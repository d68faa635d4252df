"""The forecast on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u

from mim3d.data.files import replacing
from mim3d.fields import unit_factor
from mim3d.forecasting import Forecast
from mim3d.report.comparison import Comparison, ShellHistory
from mim3d.report.slices import Slicer, label_bar, outline, set_ticks
from mim3d.report.style import (
    FORECAST_COLOR,
    FORECAST_EDGE,
    REFERENCE_COLOR,
    SIMULATION_COLOR,
    SIMULATION_EDGE,
    Shown,
    Theme,
    choose_shown,
    theme,
    time_label,
)
from mim3d.supernova.analytic import sedov_radius

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
_COLUMNS = 4


def draw_summary(comparison: Comparison, path: str | Path) -> None:
    """Write a PNG: slices at four times, and the shell, the affected gas and the error against time.

    Parameters
    ----------
    comparison
        The forecast, and the simulation where there is one.
    path
        File to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with theme(dark=False) as colors:
        figure = _draw(comparison, colors)
        FigureCanvasAgg(figure)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)


def _draw(comparison: Comparison, colors: Theme) -> Figure:
    from matplotlib.figure import Figure

    forecast = comparison.forecast
    shown = choose_shown(forecast.initial, forecast.trajectory)
    rows = _rows(comparison, shown)
    has_curves = comparison.forecast_shell is not None
    side, left, gap, bottom = 2.06, 0.98, 0.1, 3.25 if has_curves else 0.75
    height = bottom + len(rows) * (side + gap) + 0.78
    width = left + _COLUMNS * (side + gap) + 1.0
    figure = Figure(figsize=(width, height))

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    figure.text(
        left / width, 1 - 0.33 / height, _title(comparison), fontsize=13, fontweight="bold", va="center"
    )
    figure.text(
        (width - 1.0) / width,
        1 - 0.33 / height,
        _subtitle(comparison),
        fontsize=9,
        color=colors.muted,
        ha="right",
        va="center",
    )
    slicer = Slicer(forecast.trajectory)
    frames = _chosen_frames(len(forecast))
    for i, (name, values, difference, edges) in enumerate(rows):
        y = bottom + (len(rows) - 1 - i) * (side + gap)
        picture: Any = None
        for k, frame in enumerate(frames):
            axes = place(left + k * (side + gap), y, side, side)
            limit = shown.difference_limit
            scale = (
                {"cmap": colors.difference_map, "vmin": -limit, "vmax": limit}
                if difference
                else {"cmap": "inferno", "norm": shown.norm()}
            )
            picture = axes.imshow(
                slicer(values[frame]), origin="lower", extent=slicer.extent, interpolation="nearest", **scale
            )
            for mask, color in edges:
                if np.isfinite(mask[frame]).all():
                    outline(axes, slicer, mask[frame] > 0.5, color, width=0.9)
            set_ticks(axes, slicer)
            axes.tick_params(labelleft=k == 0, labelbottom=i == len(rows) - 1, length=2.5)
            if i == 0:
                axes.set_title(_time_label(forecast, frame), pad=5)
            if i == len(rows) - 1:
                axes.set_xlabel(slicer.labels[0], labelpad=1)
            if k == 0:
                axes.set_ylabel(slicer.labels[1], labelpad=-3)
                figure.text(
                    0.2 / width,
                    (y + side / 2) / height,
                    name,
                    rotation=90,
                    ha="center",
                    va="center",
                    fontsize=11,
                    fontweight="bold",
                )
        bar_axes = place(left + _COLUMNS * (side + gap) + 0.02, y + 0.06, 0.09, side - 0.12)
        label_bar(
            figure.colorbar(picture, cax=bar_axes),
            shown.difference_label if difference else shown.label,
            shown,
            difference,
        )
    if has_curves:
        total = _COLUMNS * (side + gap) - gap
        panels = [_draw_radius, _draw_volume] + ([_draw_error] if comparison.scores is not None else [])
        space = 0.72
        panel = (total - space * (len(panels) - 1)) / len(panels)
        for k, draw in enumerate(panels):
            axes = place(left + k * (panel + space), 0.62, panel, bottom - 1.5)
            draw(axes, comparison, colors)
            axes.set_xlabel("time after the explosion  [Myr]", labelpad=2)
            axes.grid(True, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, loc="upper left", handlelength=1.8, borderaxespad=0.2)
    return figure


def _rows(comparison: Comparison, shown: Shown) -> list[tuple[str, list[np.ndarray], bool, list[Any]]]:
    """Rows of slices: name, frames as shown, whether they are differences, and outlines with colours."""
    forecast, simulation = comparison.forecast, comparison.simulation
    future = np.asarray(forecast.trajectory.fields[shown.field])
    start = np.asarray(forecast.initial.fields[shown.field][-1])
    truth = None if simulation is None else np.asarray(simulation.fields[shown.field])
    own, both = [], []
    if "affected" in forecast.trajectory.fields:
        masks = np.stack([forecast.affected_mask(frame) for frame in range(len(forecast))]).astype(float)
        own = [(masks, FORECAST_EDGE)]
    if comparison.affected is not None:
        both = [(comparison.affected, SIMULATION_EDGE)]
    rows = []
    if truth is not None:
        rows.append(("Simulation", [shown.values(frame) for frame in truth], False, both))
    rows.append(("Forecast", [shown.values(frame) for frame in future], False, both + own))
    if truth is not None:
        pairs = zip(future, truth, strict=True)
        rows.append(("Difference", [shown.difference(frame, true) for frame, true in pairs], True, []))
    else:
        rows.append(("Change", [shown.difference(frame, start) for frame in future], True, []))
    return rows


def _chosen_frames(count: int) -> list[int]:
    """Four frames, evenly spread, the last among them."""
    return [-(-count * (k + 1) // _COLUMNS) - 1 for k in range(_COLUMNS)]


def _time_label(forecast: Forecast, frame: int) -> str:
    since = forecast.trajectory.times[frame] - forecast.initial.times[-1]
    return time_label(float(since), forecast.trajectory.time_unit)


def _title(comparison: Comparison) -> str:
    return f"Forecast by {comparison.forecast.model}"


def _subtitle(comparison: Comparison) -> str:
    forecast = comparison.forecast
    text = f"{len(forecast)} frames in {forecast.seconds:.2g} s on {forecast.device}"
    if comparison.affected is not None and forecast.affected_is_forecast:
        text += "   ·   outlines: affected gas (white simulation, blue forecast)"
    elif "affected" in forecast.trajectory.fields:
        text += "   ·   outline: affected gas"
    return text


def _curves(comparison: Comparison) -> list[tuple[str, ShellHistory, dict[str, Any]]]:
    curves = []
    if comparison.simulation_shell is not None:
        style = {"color": SIMULATION_COLOR, "linewidth": 2.4, "solid_capstyle": "round"}
        curves.append(("simulation", comparison.simulation_shell, style))
    if comparison.forecast_shell is not None:
        style = {"color": FORECAST_COLOR, "linewidth": 1.6, "marker": "o", "markersize": 3.2}
        curves.append(("forecast", comparison.forecast_shell, style))
    return curves


def _draw_radius(axes: Axes, comparison: Comparison, colors: Theme) -> None:
    curves = _curves(comparison)
    for name, shell, style in curves:
        axes.plot(shell.times, shell.radius, label=name, **style)
    axes.set_title("Radius of the shell", loc="left", fontweight="bold")
    axes.set_ylabel("radius  [pc]")
    highest = float(np.nanmax(np.concatenate([shell.radius for _, shell, _ in curves])))
    times = curves[0][1].times
    energy = comparison.forecast.initial.parameters.get("explosion_energy")
    if energy is not None and energy.unit is not None and energy.unit.is_equivalent(u.erg):
        mean = float(np.mean(comparison.forecast.initial.fields["density"][-1]))
        fine = np.linspace(times[0], times[-1], 200)[1:]
        radius = sedov_radius(float(energy.value) * unit_factor(energy.unit, u.erg), mean, fine)
        axes.plot(
            fine,
            radius,
            color=REFERENCE_COLOR,
            linewidth=1.0,
            linestyle=(0, (4, 3)),
            label="Sedov–Taylor, no cooling",
        )
        highest = max(highest, float(radius[-1]))
    if highest > 0:
        axes.set_ylim(0, 1.35 * highest)


def _draw_volume(axes: Axes, comparison: Comparison, colors: Theme) -> None:
    scale = 1e3
    for name, shell, style in _curves(comparison):
        if np.isfinite(shell.affected_volume[1:]).any():
            axes.plot(shell.times, shell.affected_volume / scale, label=name, **style)
    axes.set_title("Volume of affected gas", loc="left", fontweight="bold")
    axes.set_ylabel(r"volume  [$10^3$ pc$^3$]")
    axes.margins(y=0.25)


def _draw_error(axes: Axes, comparison: Comparison, colors: Theme) -> None:
    assert comparison.scores is not None
    assert comparison.forecast_shell is not None
    times = comparison.forecast_shell.times[1:]
    axes.plot(
        times,
        comparison.scores["persistence_mid_plane_error"],
        color=REFERENCE_COLOR,
        linewidth=1.4,
        linestyle=(0, (4, 3)),
        label="persistence",
    )
    axes.plot(
        times,
        comparison.scores["mid_plane_error"],
        color=FORECAST_COLOR,
        linewidth=1.6,
        marker="o",
        markersize=3.2,
        label="forecast",
    )
    axes.set_title("Mean error on the mid-planes", loc="left", fontweight="bold")
    axes.set_ylabel(r"error of $\log_{10} n_{\rm H}$  [dex]")
    axes.margins(y=0.25)
