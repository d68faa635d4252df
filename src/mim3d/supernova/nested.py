"""A blast on finer cells than the gas is known on, computed only where it has come to.

Most of the gas does not know of the explosion yet. It moves a hundred times more slowly, and a few steps
follow it to the end. The cells of the blast lie in a part of the box that grows with it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mim3d.supernova.cooling import CoolingCurve
from mim3d.supernova.hydrodynamics import ENERGY, MOMENTUM, kinetic_energy_density, to_conserved, to_primitive
from mim3d.supernova.simulation import evolve, evolve_step
from mim3d.supernova.units import ADIABATIC_INDEX

_MARGIN = 2
"""Cells of quiet gas between the blast and the sides of its part of the box; a step crosses less than one."""

_GRAIN = 2
"""The sides of that part lie on multiples of so many cells."""

_SHOCK_PRESSURE = 3.0
"""Pressure over that of the quiet gas nearby from which a cell belongs to the blast."""

Region = tuple[slice, ...]
"""Part of a box: a slice of cells for each axis."""


def refine(conserved: Tensor) -> Tensor:
    """Divide every voxel into eight cells, from what its neighbours hold.

    The logarithm of the density and the velocity are interpolated so that halves of a voxel average to it
    (axis by axis, by the prediction of Harten 1995 from five averages); then all eight cells are scaled and
    shifted to the voxel's mass and momentum. P / rho stays that of the voxel. Mass, momentum and P are kept.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)` of monatomic gas, see `hydrodynamics.to_primitive`.

    Returns
    -------
    Tensor
        `(B, 5, 2 X, 2 Y, 2 Z)`.
    """
    primitive = to_primitive(conserved, ADIABATIC_INDEX)
    theta = primitive[:, ENERGY:] / primitive[:, :1]
    fine = torch.cat([primitive[:, :1].log(), primitive[:, MOMENTUM]], dim=1)
    for axis in (2, 3, 4):
        fine = _halve(fine, axis)
    density, velocity = fine[:, :1].exp(), fine[:, MOMENTUM]
    density = density * _repeat(primitive[:, :1] / functional.avg_pool3d(density, 2))
    excess = functional.avg_pool3d(density * velocity, 2) - conserved[:, MOMENTUM]
    velocity = velocity - _repeat(excess / conserved[:, :1])
    return to_conserved(torch.cat([density, velocity, density * _repeat(theta)], dim=1), ADIABATIC_INDEX)


def _repeat(values: Tensor) -> Tensor:
    """Give every voxel's value to its eight cells."""
    return functional.interpolate(values, scale_factor=2, mode="nearest")


def _halve(values: Tensor, axis: int) -> Tensor:
    """Put two cells in the place of each, from two neighbours on either side; copies beyond the box."""
    size = values.shape[axis]
    first, last = values.narrow(axis, 0, 1), values.narrow(axis, size - 1, 1)
    padded = torch.cat([first, first, values, last, last], dim=axis)
    furthest_below, below, _, above, furthest_above = (padded.narrow(axis, k, size) for k in range(5))
    difference = (22 * (above - below) - 3 * (furthest_above - furthest_below)) / 128
    return torch.stack([values - difference, values + difference], dim=axis + 1).flatten(axis, axis + 1)


@dataclass(frozen=True)
class QuietGas:
    """Gas without the explosion, known at a few times and taken to change evenly between them.

    Parameters
    ----------
    times_myr
        Increasing, the first 0.
    states
        Conserved variables `(T, 5, X, Y, Z)`.
    """

    times_myr: tuple[float, ...]
    states: Tensor

    @classmethod
    def follow(
        cls, conserved: Tensor, times_myr: Sequence[float], cell_width: float, curve: CoolingCurve
    ) -> QuietGas:
        """Evolve gas `(1, 5, X, Y, Z)` to the given times [Myr]."""
        states = torch.cat([conserved, *evolve(conserved, times_myr, cell_width, curve)])
        return cls((0.0, *times_myr), states)

    def at(self, time_myr: float, region: Region = (slice(None),) * 3) -> Tensor:
        """Conserved variables of a part of the box `(1, 5, ...)`; of all of it, if nothing is said."""
        after = min(max(bisect_left(self.times_myr, time_myr), 1), len(self.times_myr) - 1)
        before = self.times_myr[after - 1]
        share = (time_myr - before) / (self.times_myr[after] - before)
        low, high = (self.states[(slice(k, k + 1), slice(None), *region)] for k in (after - 1, after))
        return torch.lerp(low, high, share)


def evolve_blast(
    exploded: Tensor,
    quiet: QuietGas,
    times_myr: Sequence[float],
    cell_width: float,
    curve: CoolingCurve,
) -> Iterator[tuple[Tensor, Region]]:
    """Evolve an explosion where it has come to, and stop at the given times.

    Parameters
    ----------
    exploded
        `(1, 5, X, Y, Z)` at time 0, see `hydrodynamics.to_primitive`.
    quiet
        The same gas without the explosion.
    times_myr
        Increasing times to stop at [Myr].
    cell_width
        [pc].
    curve
        How the gas cools.

    Yields
    ------
    Tensor
        Conserved variables `(1, 5, ...)` of the cells that the blast may have come to.
    tuple of slice
        Where in the box these are, on multiples of `_GRAIN` cells.

    Raises
    ------
    SimulationError
        If a cell is no longer finite.
    """
    pressure = _pressure(quiet.states).amax(dim=0)
    limit = _SHOCK_PRESSURE * functional.max_pool3d(pressure[None], 3, stride=1, padding=1)[0]
    region = _around(exploded, limit, tuple(slice(0, size) for size in limit.shape))
    state = exploded[(..., *region)]
    now_myr, reverse = 0.0, False
    for time_myr in times_myr:
        while now_myr < time_myr:
            wider = _union(region, _around(state, limit, region))
            if wider != region:
                larger = quiet.at(now_myr, wider)
                larger[(..., *_within(region, wider))] = state
                state, region = larger, wider
            remaining = torch.tensor([time_myr - now_myr], dtype=torch.float64, device=state.device)
            state, step = evolve_step(state, remaining, cell_width, curve, reverse=reverse)
            step_myr = float(step)
            is_last = time_myr - now_myr - step_myr <= 1e-9 * time_myr
            now_myr = time_myr if is_last else now_myr + step_myr
            reverse = not reverse
        yield state, region


def _around(state: Tensor, limit: Tensor, region: Region) -> Region:
    """Part of the box with a margin around the cells of a region whose pressure is that of a blast."""
    pressure = _pressure(state)[0]
    # What is no longer a number is the blast's doing.
    excess = (pressure / limit[region]).nan_to_num(math.inf)
    # Where there is no blast, the cell that comes nearest to one.
    is_blast = excess >= excess.amax().clamp(max=1)
    plane = is_blast.amax(dim=2)
    lines = plane.amax(dim=1), plane.amax(dim=0), is_blast.amax(dim=0).amax(dim=0)
    sides = []
    for line, part, size in zip(lines, region, limit.shape, strict=True):
        where = line.nonzero()
        first, last = part.start + int(where[0]) - _MARGIN, part.start + int(where[-1]) + _MARGIN
        sides.append(slice(max(0, first // _GRAIN * _GRAIN), min(size, (last // _GRAIN + 1) * _GRAIN)))
    return tuple(sides)


def _pressure(conserved: Tensor) -> Tensor:
    return (ADIABATIC_INDEX - 1) * (conserved[:, ENERGY] - kinetic_energy_density(conserved))


def _union(one: Region, other: Region) -> Region:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def _within(inner: Region, outer: Region) -> Region:
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
