"""The forecast in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mim3d.forecasting import Forecast
from mim3d.report.comparison import Comparison
from mim3d.report.style import shown_time_unit
from mim3d.trust.guard import bad_forecasts
from mim3d.trust.spread import INTERVAL

if TYPE_CHECKING:
    from rich.table import Table

    from mim3d.report.evaluation import Evaluation


def forecast_table(comparison: Comparison) -> Table:
    """Lay out a forecast frame by frame: error, persistence's error, IoU of affected gas, shell radius."""
    forecast = comparison.forecast
    since = forecast.trajectory.times - forecast.initial.times[-1]
    factor, unit = shown_time_unit(forecast.trajectory.time_unit)
    times = factor * since
    table = _new_table()
    table.add_column(_header("time", unit), justify="right")
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
    if "density" in forecast.spread:
        _add(table, columns, _header("spread", "dex"), _spread_in_affected(forecast), ".3f")
    for k, time in enumerate(times):
        table.add_row(f"{time:.4f}", *(_cell(values[k], style) for values, style in columns))
    return table


def _spread_in_affected(forecast: Forecast) -> np.ndarray:
    """Mean spread of log10 density in the gas that is forecast to be affected `(T,)`; NaN without any."""
    masks = np.stack([forecast.affected_mask(frame) for frame in range(len(forecast))])
    axes = tuple(range(1, masks.ndim))
    count = masks.sum(axis=axes)
    total = np.where(masks, forecast.spread["density"], 0.0).sum(axis=axes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def trust_lines(forecast: Forecast) -> list[str]:
    """Say whether the gas is like the training's, and what the spread is."""
    if forecast.verdict is None:
        lines = [f"no guard: {forecast.model} does not know which gas it was trained on (mim3d calibrate)"]
    else:
        lines = [f"guard: {forecast.verdict}"]
    if forecast.is_guide_alone:
        lines.append(
            f"so this is what the gas solver makes of it, without the correction of {forecast.model}"
        )
    if forecast.spread:
        kind = (
            "standard deviation, calibrated on validation clouds"
            if forecast.spread_is_calibrated
            else "of the members alone: the model is not calibrated"
        )
        lines.append(f"spread over {forecast.members} members, in the affected gas: {kind}")
    return lines


def speed_lines(comparison: Comparison) -> list[str]:
    """Say how long the forecast took and, where it is known, how long the simulation did."""
    forecast = comparison.forecast
    lines = [f"{len(forecast)} frames in {forecast.seconds:.2f} s on {forecast.device}"]
    speed_up = comparison.speed_up
    if speed_up is not None and comparison.simulation_seconds is not None:
        seconds = f"{comparison.simulation_seconds:.1f} s"
        is_part = comparison.covered < 0.999
        much = (
            f"{speed_up:.1f} times faster than" if speed_up >= 1 else f"{1 / speed_up:.1f} times slower than"
        )
        lines.append(
            f"{much} the simulation, which took {seconds} where it was run "
            + (f"for all its frames, {comparison.covered:.0%} of it for these on average " if is_part else "")
            + "(the ratio depends on both machines)"
        )
    return lines


def score_table(evaluation: Evaluation) -> Table:
    """Lay out scores over many runs, one lead time a row; `ForecastScores.compute` has more."""
    scores, times = evaluation.scores, evaluation.times
    table = _new_table(narrow=True)
    table.add_column(_header("time", "Myr"), justify="right")
    columns: list[tuple[np.ndarray, str]] = []
    for name, label, style in (
        ("mid_plane_error", "mid-\nplane\n[dex]", ".3f"),
        ("mid_plane_ratio", "/ per-\nsist.", ".2f"),
        ("mid_plane_drift_ratio", "/ drift", ".1f"),
        ("volume_ratio", "vol. /\nper-\nsist.", ".2f"),
        ("iou", "IoU", ".2f"),
        ("recall", "re-\ncall", ".2f"),
        ("precision", "prec-\nision", ".2f"),
        ("missed_mass", "mass\nlost\n[%]", ".1%"),
        ("shell_radius_error", "shell\nradius\n[%]", ".1%"),
        ("thermal_energy_error", "heat\n[%]", ".1%"),
        ("radial_momentum_error", "mom.\n[%]", ".1%"),
        ("vrmse_density", "VRMSE\nden-\nsity", ".3f"),
    ):
        if name in scores:
            _add(table, columns, label.replace("[", r"\["), scores[name], style)
    for k, time in enumerate(times):
        table.add_row(f"{time:.3f}", *(_cell(values[k], style) for values, style in columns))
    return table


def set_table(evaluations: Sequence[Evaluation]) -> Table:
    """Lay out sets of runs, one a row, at the last lead time, with two thirds of the runs in brackets.

    Behind the scores stand the share of the runs that the guard flags, how many forecasts are bad (their
    mid-plane error is above twice the 95th percentile of the first set), and how many it flags.
    """
    table = _new_table()
    for name in (
        "set",
        "runs",
        "mid-planes /\npersistence",
        "/ drift",
        "IoU",
        "radius\n\\[%]",
        "flagged",
        "bad",
        "caught",
    ):
        table.add_column(name, justify="left" if name == "set" else "right")
    for each in evaluations:
        spread = each.sums.spread()
        cells = []
        for name, style in (
            ("mid_plane_ratio", ".2f"),
            ("mid_plane_drift_ratio", ".1f"),
            ("iou", ".2f"),
            ("shell_radius_error", ".1%"),
        ):
            values = each.scores.get(name)
            value = np.nan if values is None else float(values[-1])
            text = _cell(value, style)
            if name in spread and np.isfinite(value) and each.num_runs > 1:
                low, high = (_cell(float(end[-1]), style) for end in spread[name])
                text += f" ({low}-{high})"
            cells.append(text)
        flagged = _share(each.num_flagged, len(each.verdicts))
        bad = bad_forecasts(each.last_errors, evaluations[0].last_errors)
        caught = [verdict for verdict, is_bad in zip(each.verdicts, bad, strict=False) if is_bad]
        cells += [flagged, str(int(bad.sum())), _share(sum(not v.is_inside for v in caught), len(caught))]
        table.add_row(each.source, str(each.num_runs), *cells)
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Say what the table has no column for: The Well's VRMSE, and what finding all affected gas costs."""
    lines = []
    tables = evaluation.sums.rollout_vrmse()
    shown = {
        name: table
        for name, table in tables.items()
        if not (name[-2:] in ("_x", "_y", "_z") and name[:-2] in tables)
    }
    for name, table in shown.items():
        parts = [
            f"{window if window == 'one step' else f'steps {window}'} {value:.3f}"
            for window, value in table.items()
        ]
        if parts:
            lines.append(f"VRMSE of {name}: {', '.join(parts)}")
    threshold, precision = evaluation.sums.safe_threshold()
    if np.isfinite(threshold):
        lines.append(
            f"99 % of the affected gas is found with threshold {threshold:.3f}, at precision {precision:.2f}"
        )
    for name, coverage in evaluation.coverage().items():
        share = float(coverage.at(INTERVAL)[0])
        lines.append(f"{INTERVAL:.0%} intervals of {name} hold {share:.1%}")
    if evaluation.verdicts:
        count = len(evaluation.verdicts)
        lines.append(
            f"guard: {evaluation.num_flagged} of {count} flagged ({evaluation.num_flagged / count:.1%})"
        )
    else:
        lines.append("no guard")
    return lines


def _new_table(*, narrow: bool = False) -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0) if narrow else (0, 1))


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
    # The unit stands in the header.
    return format(value, style).removesuffix("%") if np.isfinite(value) else "–"
