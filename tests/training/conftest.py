"""Small made-up runs on 8^3 voxels, and a recipe that trains on them in seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units as u

from mim3d.data import well
from mim3d.fields import Trajectory
from mim3d.training import Recipe, load_recipe


def write_run(path: Path, seed: int, grid: int = 8, frames: int = 4) -> None:
    """Write a cavity that grows in clumpy gas, and its twin in which nothing happens."""
    random = np.random.default_rng(seed)
    centres = (np.arange(grid) + 0.5) * 60 / grid - 30
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(centres, centres, centres, indexing="ij")))
    clumps = np.exp(0.3 * random.normal(size=(grid,) * 3))
    density = np.stack([np.where(radius < 12 * np.sqrt(k), 0.05, 1.0) * clumps for k in range(frames)])
    common = {
        "units": {"density": u.Msun / u.pc**3},
        "times": np.arange(frames) / 150,
        "box_size": (60.0,) * 3,
    }
    twin = Trajectory(fields={"density": np.broadcast_to(clumps, density.shape)}, **common)
    well.write(path, Trajectory(fields={"density": density}, twin=twin, **common))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight runs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(8):
        write_run(folder / f"run_{seed}.h5", seed)
    return folder


@pytest.fixture
def recipe(runs: Path) -> Callable[..., Recipe]:
    """Make the recipe `tiny` for the runs, changed by flags; in full precision, so that sums compare."""
    own = [f"--data.folder={runs}", "--machine.precision=32-true"]
    return lambda *flags: load_recipe("tiny", [*own, *flags])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in another order round differently; with one thread there is one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
