"""Many simulated supernovae, one file a run: on this machine's cores, a GPU, or a Dask cluster."""

from __future__ import annotations

import dataclasses
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from mim3d.data import well
from mim3d.errors import UserError
from mim3d.jobs import claim_folder, progress_bar, run_jobs
from mim3d.supernova import FIELD_UNITS, PAPER_FRAME_TIMES_MYR, CloudSettings, simulate
from mim3d.supernova.emissivity import CoolingTable
from mim3d.supernova.simulation import Place

SETTINGS_FILE = "campaign.json"


@dataclass(frozen=True)
class CampaignSettings:
    """What a campaign simulates: everything that its results depend on.

    Parameters
    ----------
    runs
        How many clouds.
    seed
        Of the campaign. Run `i` depends on the seed and `i` alone: more runs may be added later.
    grid
        Cells along each axis that the gas is simulated with.
    voxels
        Voxels along each axis of the stored fields; divides `grid`.
    fields
        Which fields to store: density, pressure, temperature, velocity.
    density
        Range of the mean number density of hydrogen nuclei, drawn evenly in its logarithm [cm^-3].
    mach
        Range of the Mach number of the turbulence when it starts to decay, drawn evenly; 0 for uniform gas.
    temperature
        Of the cloud, and the floor of the cooling [K].
    cooling
        Table of the emissivity, gnat2007 or schure2009; none: the gas does not radiate.
    energy
        Of the explosion [erg]: a number, or a range drawn evenly in its logarithm.
    box
        Side length of the cubic box [pc].
    frames
        Frames after the explosion.
    time_step
        Between frames [Myr].
    site
        Where the star explodes: coordinates from the lower corner of the box [pc], or `"filament"`, `"void"`
        or `"off-centre"`, see `CloudSettings`; the centre where not given.
    site_reach
        How far from the centre a site without coordinates may be [pc].
    explosions
        Stars that explode at the same moment.
    """

    runs: int = 200
    seed: int = 0
    grid: int = 64
    voxels: int = 32
    fields: tuple[str, ...] = tuple(FIELD_UNITS)
    density: tuple[float, float] = (44.5, 44.5)
    mach: tuple[float, float] = (5.0, 5.0)
    temperature: float = 100.0
    cooling: CoolingTable | Literal["none"] = CloudSettings.cooling
    energy: float | tuple[float, float] = 1e51
    box: float = 60.0
    frames: int = len(PAPER_FRAME_TIMES_MYR) - 1
    time_step: float = PAPER_FRAME_TIMES_MYR[1]
    site: tuple[float, float, float] | Place | None = None
    site_reach: float = 12.0
    explosions: int = 1

    def __post_init__(self) -> None:
        """Check ranges; the first cloud checks the rest."""
        if self.runs < 1:
            raise UserError(f"runs must be at least 1, found {self.runs}")
        if self.frames < 1 or not self.time_step > 0:
            raise UserError(f"frames and time_step must be > 0, found {self.frames} and {self.time_step}")
        for name in ("density", "mach"):
            low, high = getattr(self, name)
            if not 0 <= low <= high or (name == "density" and low == 0):
                raise UserError(f"{name} needs a range, the lower end first, found {low} {high}")
        low, high = self.energy_range
        if not 0 <= low <= high or (low == 0 < high):
            raise UserError(f"energy needs a range, the lower end first, found {low} {high}")
        unknown = [name for name in self.fields if name not in FIELD_UNITS]
        if unknown or not self.fields:
            raise UserError(
                f"fields are some of {', '.join(FIELD_UNITS)}; found {', '.join(self.fields) or 'none'}"
            )
        self.cloud(0)

    @property
    def energy_range(self) -> tuple[float, float]:
        """Lowest and highest energy of an explosion [erg]."""
        return self.energy if isinstance(self.energy, tuple) else (self.energy, self.energy)

    def cloud(self, index: int) -> CloudSettings:
        """Draw the settings of run `index`."""
        generator = np.random.default_rng([self.seed, index])
        log_density = generator.uniform(*np.log(self.density))
        mach_number = generator.uniform(*self.mach)
        seed = int(generator.integers(2**31))
        low, high = self.energy_range
        energy = low if low == high else float(np.exp(generator.uniform(np.log(low), np.log(high))))
        return CloudSettings(
            seed=seed,
            hydrogen_density=float(np.exp(log_density)),
            mach_number=float(mach_number),
            temperature=self.temperature,
            cooling=self.cooling,
            explosion_energy=energy,
            box_size=self.box,
            grid=self.grid,
            voxels=self.voxels,
            frame_times=tuple(frame * self.time_step for frame in range(self.frames + 1)),
            site=self.site,
            site_reach=self.site_reach,
            explosions=self.explosions,
        )


def run_path(output: str | Path, index: int) -> Path:
    """File of run `index` of a campaign."""
    return Path(output) / f"run_{index:06d}.h5"


def run_campaign(
    settings: CampaignSettings,
    output: str | Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "cpu",
    batch: int = 1,
) -> list[Path]:
    """Simulate what is not there yet, each run into a file of The Well's layout, with a progress bar.

    Every file appears under its name once it is whole: a campaign that was stopped, however that was, goes on
    when it is started again.

    Parameters
    ----------
    settings
        What to simulate.
    output
        The folder, made if it is not there.
    workers
        Processes on this machine, of one thread each; where not given, as many as there are cores, one for a
        GPU.
    scheduler
        Address of a Dask scheduler (`tcp://host:port`) whose workers see the same folder; instead of
        `workers`.
    device
        `cpu` or `cuda`.
    batch
        Clouds that one process simulates at a time; several keep a GPU busy.

    Returns
    -------
    list of Path
        The files of all runs.

    Raises
    ------
    UserError
        If the folder holds another campaign, or the scheduler does not answer.
    """
    output = Path(output)
    if batch < 1:
        raise UserError(f"batch must be at least 1, found {batch}")
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"device {device} is not available here; use --device cpu")
    # More or fewer runs are still the same campaign.
    described = {**dataclasses.asdict(settings), "runs": None}
    # Settings that are younger than the record had the value that is now their default.
    defaults = dataclasses.asdict(CampaignSettings())
    claim_folder(output, SETTINGS_FILE, described, "another campaign", defaults)
    paths = [run_path(output, index) for index in range(settings.runs)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    groups = [missing[start : start + batch] for start in range(0, len(missing), batch)]
    workers = workers or (1 if device != "cpu" else os.cpu_count() or 1)
    console = Console(stderr=True)
    if len(missing) < settings.runs:
        console.print(f"{settings.runs - len(missing)} of {settings.runs} runs are there already")
    with progress_bar(console, "runs") as progress:
        task = progress.add_task("simulating", total=settings.runs, completed=settings.runs - len(missing))
        if scheduler is None and (workers == 1 or len(groups) <= 1):
            for group in groups:
                done = 0.0

                def advance(fraction: float, size: int = len(group)) -> None:
                    nonlocal done
                    progress.advance(task, (fraction - done) * size)
                    done = fraction

                _simulate_runs(settings, group, str(output), device, advance)
        elif groups:
            simulate_group = functools.partial(
                _simulate_runs, settings, output=str(output.resolve()), device=device
            )
            for count in run_jobs(
                simulate_group, groups, workers=min(workers, len(groups)), scheduler=scheduler
            ):
                progress.advance(task, count)
    return paths


def _simulate_runs(
    settings: CampaignSettings,
    indices: list[int],
    output: str,
    device: str,
    progress: Any = lambda fraction: None,
) -> int:
    """Simulate some runs in one batch and write their files; the piece of work that a worker gets."""
    clouds = [settings.cloud(index) for index in indices]
    runs = simulate(clouds, fields=settings.fields, device=device, progress=progress)
    for index, run in zip(indices, runs, strict=True):
        well.write(run_path(output, index), run)
    return len(indices)
