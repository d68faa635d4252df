"""What is measured: one row of the table each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mim3d.machine import Precision

Kind = Literal["forecast", "training", "bundled", "start", "solver", "scaling"]

MIM_3D = {"in_channels": 1, "hidden_channels": [32] * 4, "kernel_size": 5, "num_axes": 3, "patch_size": 1}
"""3D-MIM as published (arXiv 2302.00026)."""

MIM_2D = {"in_channels": 1, "hidden_channels": [64] * 4, "kernel_size": 5, "num_axes": 2, "patch_size": 4}
"""MIM as published for Moving MNIST (arXiv 1811.07490)."""

SMALL = {"in_channels": 1, "hidden_channels": [16, 16], "kernel_size": 3, "num_axes": 3, "patch_size": 1}
"""A network in which every kind of growth can be followed in minutes."""


@dataclass(frozen=True)
class Row:
    """A configuration.

    Parameters
    ----------
    name
        What it is called in the table and by `--rows`.
    kind
        What is timed: a `forecast`; a `training` step with its optimiser; a forecast of the `bundled` model
        and cloud; the same from process `start`; the gas `solver`; `scaling` over two processes.
    settings
        The network's constructor arguments, without the grid.
    network
        A key of `mim3d.nn.NETWORKS`; or, with no settings, a bundled model.
    grid
        Voxels along each axis of a frame, or cells of the gas.
    batch
        Sequences at a time.
    input_length, frames
        Frames that are given, and all of a sequence.
    precision
        Of the convolutions: float32 or bfloat16.
    device
        cpu or cuda.
    recompute
        Whether each time step is computed again in the backward pass (checkpointing over time).
    series, size
        The growth that the row is a point of, and where.
    """

    name: str
    kind: Kind
    settings: dict[str, Any] = field(default_factory=dict)
    network: str = "mim"
    grid: tuple[int, ...] = (32, 32, 32)
    batch: int = 1
    input_length: int = 1
    frames: int = 20
    precision: Precision = "float32"
    device: str = "cpu"
    recompute: bool = False
    series: str = ""
    size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """Make a row of what `to_dict` gave."""
        return cls(**{**values, "grid": tuple(values["grid"])})


def all_rows(device: str, quick: bool = False) -> list[Row]:
    """List the rows of a device.

    Parameters
    ----------
    device
        cpu or cuda.
    quick
        Sizes so small that all rows together take a few minutes: to see that they run, not what they cost.
    """
    rows = [*_networks(device), *_bundled(device), *_solver(device), *_growth(device)]
    if device == "cpu":
        rows.append(Row("scaling/2-processes", "scaling", grid=(16, 16, 16), batch=4, frames=6))
    return [_shrunk(row) for row in rows] if quick else rows


def _networks(device: str) -> Iterator[Row]:
    mim_3d = Row("", "forecast", MIM_3D, device=device)
    mim_2d = Row("", "forecast", MIM_2D, grid=(64, 64), batch=8, input_length=10, device=device)
    for name, row in (("mim-3d", mim_3d), ("mim-2d", mim_2d)):
        # A GPU is not filled by one sequence.
        batches = [row.batch] if device == "cpu" or name == "mim-2d" else [1, 4]
        for batch in batches:
            suffix = "" if len(batches) == 1 else f"/batch-{batch}"
            for precision in ("float32", "bfloat16"):
                at = replace(row, batch=batch, precision=precision)
                yield replace(at, name=f"{name}/forecast/{precision}{suffix}")
                training = replace(at, kind="training", name=f"{name}/training/{precision}{suffix}")
                yield training
                yield replace(training, name=f"{training.name}/recompute", recompute=True)


def _bundled(device: str) -> Iterator[Row]:
    for name in ("sn32", "sn32-density"):
        if device == "cpu":
            yield Row(f"{name}/from-start", "start", network=name)
        for precision in ("float32", "bfloat16"):
            row = Row(f"{name}/warm/{precision}", "bundled", network=name, precision=precision, device=device)
            yield row
            if device != "cpu":
                yield replace(row, name=f"{name}/batch-1/{precision}", kind="forecast")
                yield replace(row, name=f"{name}/batch-64/{precision}", kind="forecast", batch=64)


def _solver(device: str) -> Iterator[Row]:
    for cells in (64,) if device == "cpu" else (64, 128):
        yield Row(f"solver/{cells}", "solver", grid=(cells,) * 3, device=device)


def _growth(device: str) -> Iterator[Row]:
    base = Row("", "forecast", SMALL, grid=(16, 16, 16), frames=6, device=device)
    for voxels in (16, 24, 32, 48, 64):
        yield _point(replace(base, grid=(voxels,) * 3), "voxels", voxels**3)
    for horizon in (1, 3, 10, 30, 100):
        yield _point(replace(base, frames=1 + horizon), "horizon", horizon)
    for batch in (1, 2, 4, 8, 16):
        yield _point(replace(base, batch=batch), "batch", batch)
    for channels in (8, 16, 32, 64):
        yield _point(
            replace(base, settings={**SMALL, "hidden_channels": [channels] * 2}), "channels", channels
        )


def _point(row: Row, series: str, size: int) -> Row:
    return replace(row, name=f"growth/{series}/{size}", series=series, size=size)


def _shrunk(row: Row) -> Row:
    if row.kind in ("bundled", "start", "scaling"):
        return row
    if row.kind == "solver":
        return replace(row, grid=(16,) * 3)
    if not row.settings:
        return replace(row, frames=4, batch=min(row.batch, 2))
    shared = {
        "frames": min(row.frames, 4),
        "input_length": min(row.input_length, 2),
        "batch": min(row.batch, 2),
    }
    if row.series:
        # The series must still grow.
        shared = {"frames": row.frames, "input_length": 1, "batch": row.batch}
    hidden = [
        min(8, channels) if not row.series else channels for channels in row.settings["hidden_channels"]
    ]
    grid = tuple(min(voxels, 8 * row.settings["patch_size"]) for voxels in row.grid)
    return replace(
        row,
        settings={**row.settings, "hidden_channels": hidden},
        grid=row.grid if row.series == "voxels" else grid,
        **shared,
    )
