"""The table, and the exponents of growth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

Result = dict[str, Any]

COLUMNS = (
    "row",
    "time [s]",
    "of plain",
    "TFLOP",
    "GB",
    "speed",
    "of conv.",
    "of copy",
    "of matmul",
    "peak [GB]",
    "error",
    "launches",
    "measured on",
)


def make_table(results: Sequence[Result]) -> Table:
    """Lay out the results, one row each; columns that nothing fills are left out."""
    rows = [_cells(result) for result in results]
    filled = [k for k, name in enumerate(COLUMNS) if any(row[k] for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k in filled:
        # Brackets are markup to rich.
        table.add_column(
            COLUMNS[k].replace("[", r"\["), justify="left" if k == 0 else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*(row[k] for k in filled))
    return table


def _cells(result: Result) -> list[str]:
    return [
        result["name"],
        _number(result.get("seconds"), ".3g"),
        _number(result.get("times_baseline"), ".2f", " x"),
        _number(result.get("flop"), ".3g", scale=1e-12),
        _number(result.get("bytes"), ".3g", scale=1e-9),
        _speed(result),
        _number(result.get("fraction_of_convolutions"), ".0%"),
        _number(result.get("fraction_of_copy"), ".0%"),
        _number(result.get("fraction_of_matrix"), ".0%"),
        _number(result.get("gpu_peak_bytes", result.get("peak_bytes")), ".2f", scale=1e-9),
        _error(result),
        _number(result.get("launches"), "d"),
        result.get("measured", ""),
    ]


def _number(value: float | None, style: str, suffix: str = "", scale: float = 1) -> str:
    if value is None:
        return ""
    return format(value if scale == 1 else value * scale, style) + suffix


def _speed(result: Result) -> str:
    if "cells_per_second" in result:
        return f"{result['cells_per_second'] / 1e6:.2f} Mcell/s"
    if "speed_up" in result:
        return f"{result['speed_up']:.2f} x one process"
    if "flop_per_second" in result:
        return f"{result['flop_per_second'] / 1e9:.0f} GFLOP/s"
    return ""


def _error(result: Result) -> str:
    parts = []
    if "error" in result:
        name, value = list(result["error"].items())[-1]
        parts.append(f"{value:.1e} {'of gradient' if name.startswith('gradient') else 'of spread'}")
    if "truth_error_dex" in result:
        parts.append(f"{result['truth_error_dex']:.4f} dex to truth")
    if "largest_relative_difference_of_losses" in result:
        parts.append(f"losses differ by {result['largest_relative_difference_of_losses']:.0e}")
    return ", ".join(parts)


def exponents(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Fit time and memory as powers of the size, series by series.

    Returns
    -------
    dict
        By series: `seconds` and `bytes_over_base`, the slopes of straight lines in the logarithms.
        Series with less than two points are left out.
    """
    fitted: dict[str, dict[str, float]] = {}
    for series in dict.fromkeys(result["series"] for result in results if result.get("series")):
        points = [result for result in results if result["series"] == series]
        if len(points) < 2:
            continue
        sizes = np.log([point["size"] for point in points])
        fitted[series] = {}
        for name in ("seconds", "bytes_over_base"):
            values = np.array([point[name] for point in points], dtype=float)
            if (values > 0).all():
                fitted[series][name] = float(np.polyfit(sizes, np.log(values), 1)[0])
    return fitted


def exponent_lines(results: Sequence[Result]) -> list[str]:
    """Say in words how time and memory grow."""
    return [
        f"growth with {series}: "
        + ", ".join(
            f"{'time' if name == 'seconds' else 'memory'} ~ {series}^{value:.2f}"
            for name, value in slopes.items()
        )
        for series, slopes in exponents(results).items()
    ]
