"""Small made-up runs."""

from collections.abc import Callable

import numpy as np
import pytest
from astropy import units as u

from mim3d.fields import Trajectory

DENSITY = u.Msun / u.pc**3
SPEED = u.km / u.s


def make_run(
    seed: int = 0,
    frames: int = 5,
    grid: tuple[int, ...] = (8, 8, 8),
    twin: bool = True,
    **changes: object,
) -> Trajectory:
    """Random density and velocity in a box of 60 pc; the twin's density is the run's of frame 0."""
    random = np.random.default_rng(seed)
    density = np.exp(random.normal(size=(frames, *grid))).astype(np.float32)
    velocity = random.normal(0, 5, size=(frames, *grid, len(grid))).astype(np.float32)
    units = {"density": DENSITY, "velocity": SPEED}
    common = {
        "times": changes.pop("times", np.arange(frames) / 150),
        "box_size": changes.pop("box_size", (60.0,) * len(grid)),
    }
    still = np.broadcast_to(density[:1], density.shape).copy()
    values = {
        "fields": {"density": density, "velocity": velocity},
        "units": units,
        "parameters": {"mach_number": u.Quantity(5.0), "energy": 1e51 * u.erg},
        "twin": Trajectory(fields={"density": still}, units={"density": DENSITY}, **common) if twin else None,
        **common,
        **changes,
    }
    return Trajectory(**values)


@pytest.fixture
def run() -> Trajectory:
    """One run with its twin."""
    return make_run()


@pytest.fixture(scope="session")
def run_like() -> Callable[..., Trajectory]:
    """The function that makes runs."""
    return make_run
