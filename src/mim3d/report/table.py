"""The forecast in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from mim3d.forecasting import unit_factor
from mim3d.report.comparison import Comparison

if TYPE_CHECKING:
    from rich.table import Table


def forecast_table(comparison: Comparison) -> Table:
    """Lay out a forecast frame by frame: error, persistence's error, IoU of affected gas, shell radius."""
    forecast = comparison.forecast
    since = forecast.trajectory.times - forecast.initial.times[-1]
    unit = forecast.trajectory.time_unit
    is_time = unit.is_equivalent(u.Myr)
    times = since * unit_factor(unit, u.Myr) if is_time else since
    table = _new_table()
    table.add_column(_header("time", "Myr" if is_time else unit.to_string()), justify="right")
    columns: list[tuple[np.ndarray, str]] = []
    if comparison.scores is not None:
        _add(table, columns, _header("error", "dex"), comparison.scores["mid_plane_error"], ".3f")
        _add(
            table,
            columns,
            _header("persistence", "dex"),
            comparison.scores["persistence_mid_plane_error"],
            ".3f",
        )
        _add(table, columns, "IoU\naffected", comparison.scores["iou"], ".2f")
    if comparison.simulation_shell is not None:
        _add(table, columns, "shell [pc]\nsimulation", comparison.simulation_shell.radius[1:], ".1f")
    if comparison.forecast_shell is not None:
        _add(table, columns, "shell [pc]\nforecast", comparison.forecast_shell.radius[1:], ".1f")
        if comparison.simulation_shell is None:
            volume = comparison.forecast_shell.affected_volume[1:]
            _add(table, columns, _header("affected", "pc³"), volume, ".0f")
    for k, time in enumerate(times):
        table.add_row(f"{time:.4f}", *(_cell(values[k], style) for values, style in columns))
    return table


def speed_lines(comparison: Comparison) -> list[str]:
    """Say how long the forecast took and, where it is known, how long the simulation did."""
    forecast = comparison.forecast
    lines = [f"{len(forecast)} frames in {forecast.seconds:.2f} s on {forecast.device}"]
    speed_up = comparison.speed_up
    if speed_up is not None and comparison.simulation_seconds is not None:
        seconds = f"{comparison.simulation_seconds:.1f} s"
        much = (
            f"{speed_up:.1f} times faster than" if speed_up >= 1 else f"{1 / speed_up:.1f} times slower than"
        )
        lines.append(
            f"{much} the simulation, which took {seconds} where it was run "
            "(the ratio depends on both machines)"
        )
    return lines


def score_table(scores: Mapping[str, np.ndarray], times: np.ndarray) -> Table:
    """Lay out scores over many runs, one lead time a row, persistence beside.

    Parameters
    ----------
    scores
        What `ForecastScores.compute` gives.
    times
        Lead times [Myr].
    """
    table = _new_table()
    table.add_column(_header("time", "Myr"), justify="right")
    columns: list[tuple[np.ndarray, str]] = []
    for name, label in (("mid_plane_error", "mid-planes"), ("volume_error", "volume")):
        _add(table, columns, _header(label, "dex"), scores[name], ".3f")
        _add(table, columns, "(persist-\nence)", scores[f"persistence_{name}"], ".3f")
    for name, label in (("iou", "IoU"), ("recall", "recall"), ("precision", "precision")):
        _add(table, columns, label, scores[name], ".2f")
    if "vrmse_density" in scores:
        _add(table, columns, "VRMSE\ndensity", scores["vrmse_density"], ".3f")
    for k, time in enumerate(times):
        table.add_row(f"{time:.4f}", *(_cell(values[k], style) for values, style in columns))
    return table


def _new_table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False)


def _header(name: str, unit: str) -> str:
    return f"{name}\n[{unit}]".replace("[", r"\[") if unit else name


def _add(
    table: Table, columns: list[tuple[np.ndarray, str]], header: str, values: np.ndarray, style: str
) -> None:
    # A column without a single number says nothing.
    if np.isfinite(values).any():
        table.add_column(header.replace(" [pc]", r" \[pc]"), justify="right")
        columns.append((values, style))


def _cell(value: float, style: str) -> str:
    return format(value, style) if np.isfinite(value) else "–"
