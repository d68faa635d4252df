"""Whatever a user hands in, as the frames that a model starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from astropy import units as u

from mim3d import data
from mim3d.data import well
from mim3d.data.particles import read_snapshot
from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.supernova.deposit import Particles, deposit

if TYPE_CHECKING:
    from mim3d.checkpoint import Checkpoint


@dataclass(frozen=True)
class GasInput:
    """Gas on the model's grid, and the particles that it came from.

    Parameters
    ----------
    trajectory
        Frames on the grid.
    particles
        None where the file held a grid.
    """

    trajectory: Trajectory
    particles: Particles | None = None


def fields_in(path: str | Path) -> tuple[str, ...]:
    """Name the fields of the gas that a file of any known kind holds.

    Raises
    ------
    UserError
        If the file cannot be used.
    """
    kind = data.kind(path)
    if kind == "well":
        with well.open(path) as file:
            return tuple(file.fields)
    if kind == "snapshot":
        with h5py.File(path, "r", locking=False) as file:
            has_energy = any(f"PartType0/{name}" in file for name in ("InternalEnergy", "InternalEnergies"))
        return ("density", "velocity", "temperature") if has_energy else ("density", "velocity")
    # Samples do not name their channels; gas in one channel is its density.
    return ("density",) if data.original.read(path).dims[0] == 1 else ()


def read_input(
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    index: int = 0,
    center: Sequence[float] | None = None,
    box: float | None = None,
    energy: float | None = None,
    units: Mapping[str, str] | None = None,
) -> GasInput:
    """Read a file of any known kind onto the grid that a model works on.

    Parameters
    ----------
    path
        The Well's HDF5, an npz of samples, or a snapshot of particles.
    checkpoint
        The model's; says fields, grid and box.
    index
        Which run or sequence of the file.
    center
        Where the star explodes [pc]. Needed for particles; on a grid the file says it, or it is the centre.
    box
        Side of the box [pc], for npz files, which do not say it.
    energy
        Of the explosion [erg]; what the file says, or 1e51, where not given.
    units
        Units of what the file gives none for: by field, and of `"time"` and `"length"`; of particles'
        `"length"`, `"mass"` and `"velocity"`.

    Raises
    ------
    UserError
        If the file cannot be used, or the model does not take such files.
    """
    gas = _read(path, checkpoint, index, center, box, units)
    if energy is None:
        return gas
    parameters = {**gas.trajectory.parameters, "explosion_energy": u.Quantity(energy, u.erg)}
    return replace(gas, trajectory=replace(gas.trajectory, parameters=parameters))


def _read(
    path: str | Path,
    checkpoint: Checkpoint,
    index: int,
    center: Sequence[float] | None,
    box: float | None,
    units: Mapping[str, str] | None,
) -> GasInput:
    kind = data.kind(path)
    if kind == "snapshot":
        return _read_particles(path, checkpoint, center, units)
    given = dict(units or {})
    if kind == "well":
        trajectory = data.read(path, index, units=given)
    else:
        trajectory = _read_samples(path, checkpoint, index, box, given)
    if center is not None:
        trajectory = _with_site(trajectory, center)
    return GasInput(trajectory)


def _read_samples(
    path: str | Path, checkpoint: Checkpoint, index: int, box: float | None, units: dict[str, str]
) -> Trajectory:
    """Read samples, which carry neither names nor units nor a box: the model and the user say them."""
    samples = data.original.read(path)
    num_axes = len(samples.dims) - 1
    names = None
    if checkpoint.fields:
        wanted = [name for name in checkpoint.fields if name != "affected"]
        if len(wanted) != samples.dims[0]:
            raise UserError(
                f"{path} has {samples.dims[0]} channels, the model takes {len(wanted)}: {', '.join(wanted)}"
            )
        names = wanted
    if box is not None:
        units = {"length": "pc", **units}
    if checkpoint.time_step is not None:
        units = {"time": "Myr", **units}
    return samples.trajectory(
        index,
        fields=names,
        units=units,
        box_size=None if box is None else (box,) * num_axes,
        time_step=checkpoint.time_step or 1.0,
    )


def _read_particles(
    path: str | Path,
    checkpoint: Checkpoint,
    center: Sequence[float] | None,
    units: Mapping[str, str] | None,
) -> GasInput:
    if checkpoint.grid is None or checkpoint.box_size is None:
        raise UserError("this model does not say its grid and box, so particles cannot be put on it")
    if center is None:
        raise UserError(f"{path} holds particles: say where the star explodes with --center X Y Z [pc]")
    if len(center) != 3 or not all(np.isfinite(center)):
        raise UserError(f"center needs three numbers [pc], found {tuple(center)}")
    given = {f"unit_{name}": unit for name, unit in (units or {}).items()}
    if unknown := sorted(set(given) - {"unit_length", "unit_mass", "unit_velocity"}):
        raise UserError(
            f"units of particles are length, mass and velocity, found {unknown[0].removeprefix('unit_')}"
        )
    particles = read_snapshot(path, **given)
    gas = deposit(particles, center, checkpoint.box_size, checkpoint.grid)
    return GasInput(_moving_with_the_gas(gas), particles)


def _moving_with_the_gas(trajectory: Trajectory) -> Trajectory:
    """Measure velocities against the mean of the mass: the box around the star turns with its galaxy."""
    velocity, density = trajectory.fields["velocity"], trajectory.fields["density"]
    mean = np.average(velocity.reshape(-1, 3), axis=0, weights=density.ravel())
    return replace(trajectory, fields={**trajectory.fields, "velocity": (velocity - mean).astype(np.float32)})


def _with_site(trajectory: Trajectory, center: Sequence[float]) -> Trajectory:
    if len(center) != trajectory.num_axes:
        raise UserError(f"center needs {trajectory.num_axes} numbers [pc], found {tuple(center)}")
    is_length = trajectory.length_unit.is_equivalent(u.pc)
    scale = unit_factor(u.pc, trajectory.length_unit) if is_length else 1.0
    site = tuple(float(x) * scale for x in center)
    for x, low, side, axis in zip(site, trajectory.origin, trajectory.box_size, "xyz", strict=False):
        if not low <= x <= low + side:
            raise UserError(
                f"center {tuple(center)} lies outside the box along {axis}: {low:g} to {low + side:g}"
            )
    return replace(trajectory, site=site)
