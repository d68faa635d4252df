"""The same training on one process and on several: steps per second, and losses to compare."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u

from benchmarks.rows import Row
from mim3d.data import well
from mim3d.fields import Trajectory

STEPS = 60
LOG_EVERY = 10

RECIPE = """
network:
  name: multiscale-mim
  settings: {{hidden_channels: [16, 16], encoder_channels: [16, 16]}}
data:
  folder: {folder}
  fields: [density]
  static: []
  frames: {frames}
  shares: [1.0, 0.0, 0.0]
  batch_size: {batch}
optimizer: {{warm_up: 0}}
training: {{steps: {steps}, validate_every: {log_every}, save_every: {steps}, average: 0.0}}
machine: {{accelerator: cpu, precision: 32-true, cache: true}}
"""


@dataclass(frozen=True)
class Training:
    """Losses `(STEPS / LOG_EVERY,)` and speed of one training."""

    losses: list[float]
    steps_per_second: float


def train_with(folder: Path, processes: int, threads: int, row: Row) -> Training:
    """Train with so many processes, of so many threads each, as a user would: with torchrun."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = folder / "recipe.yaml"
    if not recipe.exists():
        _write_data(folder / "data", row)
        recipe.write_text(
            RECIPE.format(
                folder=folder / "data", frames=row.frames, batch=row.batch, steps=STEPS, log_every=LOG_EVERY
            )
        )
    output = folder / f"{processes}x{threads}"
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    subprocess.run(
        [*command, "-m", "mim3d", "train", str(recipe), f"--output={output}"],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
    )
    with (output / "metrics.csv").open() as file:
        losses = [float(line["loss"]) for line in csv.DictReader(file) if line.get("loss")]
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    logged = events.Scalars("loss")
    took = logged[-1].wall_time - logged[0].wall_time
    return Training(losses, (logged[-1].step - logged[0].step) / took)


def _write_data(folder: Path, row: Row) -> None:
    random = np.random.default_rng(0)
    for index in range(2 * row.batch):
        start = random.lognormal(size=row.grid)
        values = np.stack([np.roll(start, frame, axis=0) for frame in range(row.frames)])
        run = Trajectory(
            fields={"density": values},
            units={"density": u.Msun / u.pc**3},
            times=np.arange(row.frames) / 150,
            box_size=(60.0,) * len(row.grid),
        )
        well.write(folder / f"run_{index}.h5", run)
