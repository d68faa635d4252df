"""Made-up blasts and an untrained model, for the tests of forecasting, figures and the command line."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from astropy import units as u
from scipy import ndimage

from mim3d.checkpoint import Checkpoint, save
from mim3d.data import Scaling, well
from mim3d.fields import Trajectory
from mim3d.nn import build
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY


def make_blast(
    frames: int = 20, grid: int = 32, seed: int = 0, speed: float = 1.0, box: float = 60.0
) -> Trajectory:
    """Make a shell that sweeps up clumpy gas of n = 44.5 cm^-3, and its twin in which nothing happens.

    The shell's radius is 15 pc (t / 0.13 Myr)^0.3, times `speed`; it stretches where the gas is thin.
    """
    random = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(random.normal(size=(grid,) * 3), grid / 16, mode="wrap")
    clumps = np.exp(0.8 * rough / rough.std())
    ambient = 44.5 * MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY * clumps / clumps.mean()
    centres = (np.arange(grid) + 0.5) * box / grid - box / 2
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(centres, centres, centres, indexing="ij")))
    stretch = ndimage.gaussian_filter(clumps / clumps.mean(), grid / 10, mode="wrap") ** -0.25
    times = np.arange(frames) / 150
    density = np.empty((frames, grid, grid, grid))
    width = box / grid
    for k, time in enumerate(times):
        shell = 15 * (time / 0.13) ** 0.3 * speed * stretch
        edge = np.maximum(shell - width, 0)
        # What was in the cavity is in the shell.
        sharpness = edge**3 / (3 * np.maximum(shell, 1e-9) ** 2 * 0.5 * width * np.sqrt(2 * np.pi))
        swept = ambient * (1 + sharpness * np.exp(-0.5 * ((radius - shell) / (0.5 * width)) ** 2))
        density[k] = np.where(radius > edge, swept, 0.001 * ambient.mean())
    common = {
        "units": {"density": u.Msun / u.pc**3},
        "times": times,
        "box_size": (box,) * 3,
        "parameters": {
            "explosion_energy": 1e51 * u.erg,
            "hydrogen_density": 44.5 / u.cm**3,
            "simulation_seconds": 12.5 * u.s,
        },
    }
    still = np.broadcast_to(ambient, density.shape).astype(np.float32)
    twin = Trajectory(fields={"density": still}, **common)
    return Trajectory(fields={"density": density.astype(np.float32)}, twin=twin, **common)


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Import a program of `docs/` by its name: they are in no package."""

    def load(name: str) -> ModuleType:
        path = Path(__file__).parent.parent / "docs" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look for their module there.
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def blast() -> Trajectory:
    """Twenty frames of 32^3 voxels."""
    return make_blast()


@pytest.fixture(scope="session")
def blast_like() -> Callable[..., Trajectory]:
    """The function that makes blasts."""
    return make_blast


@pytest.fixture(scope="session")
def small_blast() -> Trajectory:
    """Twenty frames of 16^3 voxels."""
    return make_blast(grid=16)


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Checkpoint]:
    """Make an untrained model: it knows nothing and forecasts (almost) persistence."""

    def make(grid: int = 16, affected: bool = True, **changes: object) -> Checkpoint:
        torch.manual_seed(0)
        fields = ("density", "affected") if affected else ("density",)
        network = build(
            "multiscale-mim",
            {
                "in_channels": len(fields) + 1,
                "hidden_channels": [4, 4],
                "num_axes": 3,
                "grid": [grid] * 3,
                "encoder_channels": [4, 4],
                "static_channels": 1,
            },
        )
        count = len(fields) - 1
        scaling = Scaling(
            (*fields, "site"),
            ("log", *["none"] * (count + 1)),
            (0.2, *[0.0] * (count + 1)),
            (0.6, *[1.0] * (count + 1)),
        )
        entries: dict[str, object] = {
            "network": "multiscale-mim",
            "settings": network.settings,
            "weights": network.state_dict(),
            "scaling": scaling.to_dict(),
            "fields": fields,
            "static": ("site",),
            "grid": (grid,) * 3,
            "box_size": (60.0,) * 3,
            "time_step": 1 / 150,
            "input_length": 1,
            "num_frames": 20,
            "units": {"density": "solMass / pc3", "affected": "", "time": "Myr", "length": "pc"},
            "provenance": {"affected_threshold": 0.4},
        }
        return Checkpoint(**{**entries, **changes})

    return make


@pytest.fixture(scope="session")
def model_path(make_checkpoint: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained model in a file."""
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    save(make_checkpoint(), path)
    return path


@pytest.fixture(scope="session")
def blast_path(small_blast: Trajectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 16^3 blast in The Well's layout."""
    path = tmp_path_factory.mktemp("blast") / "blast.h5"
    well.write(path, small_blast)
    return path
