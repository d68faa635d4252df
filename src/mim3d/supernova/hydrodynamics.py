"""A finite-volume solver for the Euler equations on a uniform 3-D grid, several clouds a batch.

Dimension-split MUSCL-Hancock (van Leer 1979; Toro 2009, chapter 14) with the HLLC flux (Toro, Spruce and
Speares 1994). Where the second-order update would leave a cell without positive density or pressure, the
fluxes through its faces are replaced by first-order HLL fluxes (Harten, Lax and van Leer 1983), which keep
positivity and, being fluxes, conservation.

On CPUs in float32 the same is done by `gas.c`, a cell at a time; what is here is for GPUs, for gradients, and
for machines without a C compiler.

Inside: pc, Msun, km/s; time in pc/(km/s), see `units.MYR_PER_CODE_TIME`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mim3d.compilation import Compiled
from mim3d.supernova import native

Boundary = Literal["open", "periodic"]

MASS, MOMENTUM, ENERGY = 0, slice(1, 4), 4
NUM_VARIABLES = 5

# One cell more than the reconstruction needs, so that a face on the boundary knows whether the cell beyond it
# lost positivity: the two images of a periodic face then always carry the same flux.
NUM_GHOSTS = 3

# The smallest pressure that a cell may show, as a share of its kinetic energy density: below this the total
# energy in float32 no longer holds it.
PRESSURE_RESOLUTION = 1e-7


def to_primitive(conserved: Tensor, gamma: Tensor | float) -> Tensor:
    """Density, velocity and pressure from density, momentum density and total energy density.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)` [Msun/pc^3, Msun/pc^3 km/s, Msun/pc^3 (km/s)^2].
    gamma
        Ratio of specific heats.

    Returns
    -------
    Tensor
        `(B, 5, X, Y, Z)` [Msun/pc^3, km/s, Msun/pc^3 (km/s)^2].
    """
    density = conserved[:, MASS]
    velocity = conserved[:, MOMENTUM] / density.unsqueeze(1)
    kinetic = 0.5 * density * velocity.square().sum(dim=1)
    pressure = (gamma - 1) * (conserved[:, ENERGY] - kinetic)
    return torch.cat([density.unsqueeze(1), velocity, pressure.unsqueeze(1)], dim=1)


def to_conserved(primitive: Tensor, gamma: Tensor | float) -> Tensor:
    """Inverse of `to_primitive`."""
    density, velocity, pressure = primitive[:, 0], primitive[:, 1:4], primitive[:, 4]
    energy = pressure / (gamma - 1) + 0.5 * density * velocity.square().sum(dim=1)
    return torch.cat([density.unsqueeze(1), density.unsqueeze(1) * velocity, energy.unsqueeze(1)], dim=1)


def kinetic_energy_density(conserved: Tensor) -> Tensor:
    """Kinetic energy density `(B, X, Y, Z)` [Msun/pc^3 (km/s)^2] of conserved variables `(B, 5, X, Y, Z)`."""
    first, second, third = conserved[:, MOMENTUM].unbind(1)
    return 0.5 * (first * first + second * second + third * third) / conserved[:, MASS]


def _pad(gas: Sequence[Tensor], axis: int, boundary: Boundary) -> Tensor:
    """Join variables `(B, X, Y, Z)`, with `NUM_GHOSTS` more cells at both ends of an axis."""
    clouds, *grid = gas[0].shape
    size = grid[axis]
    grid[axis] += 2 * NUM_GHOSTS
    padded = gas[0].new_empty(clouds, NUM_VARIABLES, *grid)
    along = padded.movedim(2 + axis, 0)
    inner = along[NUM_GHOSTS : NUM_GHOSTS + size]
    for variable, values in enumerate(gas):
        inner[:, :, variable] = values.movedim(1 + axis, 0)
    along[:NUM_GHOSTS] = inner[-NUM_GHOSTS:] if boundary == "periodic" else inner[:1]
    along[NUM_GHOSTS + size :] = inner[:NUM_GHOSTS] if boundary == "periodic" else inner[-1:]
    return padded


_SMALLEST = torch.finfo(torch.float32).tiny


def _van_leer_slope(below: Tensor, centre: Tensor, above: Tensor) -> Tensor:
    """Twice the product of the differences over their sum, 0 where their signs differ."""
    left, right = centre - below, above - centre
    left_size, right_size = left.abs(), right.abs()
    return (left_size * right + left * right_size) / (left_size + right_size).clamp(min=_SMALLEST)


def _energy_density(state: list[Tensor], gamma: Tensor) -> Tensor:
    density, normal, first, second, pressure = state
    return pressure / (gamma - 1) + 0.5 * density * (normal * normal + first * first + second * second)


def _hllc_flux(left: list[Tensor], right: list[Tensor], gamma: Tensor) -> list[Tensor]:
    """HLLC flux through a face; states are (density, normal velocity, two tangential ones, pressure)."""
    # Bounds on the slowest and the fastest wave (Davis 1988).
    sound_left = torch.sqrt(gamma * left[4] / left[0])
    sound_right = torch.sqrt(gamma * right[4] / right[0])
    slowest = torch.minimum(left[1] - sound_left, right[1] - sound_right)
    fastest = torch.maximum(left[1] + sound_left, right[1] + sound_right)
    mass_left = left[0] * (slowest - left[1])
    mass_right = right[0] * (fastest - right[1])
    contact = (right[4] - left[4] + left[1] * mass_left - right[1] * mass_right) / (mass_left - mass_right)
    # 1 or 0, at which `lerp` is exact: it takes a quarter of the time of `where`.
    is_left = (contact >= 0).to(contact.dtype)
    density, normal, first, second, pressure = (
        torch.lerp(b, a, is_left) for a, b in zip(left, right, strict=True)
    )
    outer = torch.lerp(fastest, slowest, is_left)
    # Zero where the flow is supersonic: the flux is then that of the upwind state alone.
    reach = torch.lerp(fastest.clamp(min=0), slowest.clamp(max=0), is_left)
    enthalpy = _energy_density([density, normal, first, second, pressure], gamma) + pressure
    # All that the state behind the outer wave adds to the flux goes as this velocity.
    excess = reach * (contact - normal) / (outer - contact)
    mass = density * (normal + excess)
    return [
        mass,
        density * (normal * normal + excess * outer) + pressure,
        mass * first,
        mass * second,
        enthalpy * (normal + excess) + excess * density * (outer - normal) * contact,
    ]


def _hll_flux(beside: Tensor, gamma: Tensor) -> Tensor:
    """HLL flux through faces `(5, F)` from the conserved variables of the cells beside them `(5, 2, F)`."""
    cells, _ = _primitive(beside.unbind(), gamma)
    density, normal, first, second, pressure = cells
    sound = torch.sqrt(gamma * pressure / density)
    slowest = (normal - sound).amin(dim=0).clamp(max=0)
    fastest = (normal + sound).amax(dim=0).clamp(min=0)
    energy = _energy_density(cells, gamma)
    conserved = torch.stack([density, density * normal, density * first, density * second, energy])
    flux = conserved * normal
    flux[1] += pressure
    flux[ENERGY] += pressure * normal
    jump = slowest * fastest * (conserved[:, 1] - conserved[:, 0])
    return (fastest * flux[:, 0] - slowest * flux[:, 1] + jump) / (fastest - slowest)


@Compiled
def _sweep(padded: Tensor, step_over_width: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
    """Advance a batch by one step along N.

    Parameters
    ----------
    padded
        Density, momentum density along N and along two other axes, and energy density `(B, 5, N, M)`, with
        `NUM_GHOSTS` more cells at both ends of N.
    step_over_width
        Time step over cell width `(B, 1, 1)` [1/(km/s)].
    gamma
        Ratio of specific heats, a 0-d tensor (so that a new value does not recompile).

    Returns
    -------
    tuple of Tensor
        The five variables of cells -1 .. N `(B, N + 2, M)`; their fluxes through the faces between cells
        -2 .. N + 1 `(B, N + 3, M)`; and which of the faces between cells -1 .. N belong to one that lost
        positivity `(B, N + 1, M)`.
    """
    num_cells = padded.shape[2] - 2 * NUM_GHOSTS
    variables = padded.unbind(1)
    cells, inverse_density = _primitive(variables, gamma)

    # Cells -2 .. N+1 get slopes; their faces -3/2 .. N+1/2 fluxes; cells -1 .. N a new state.
    below = [values.narrow(1, 0, num_cells + 4) for values in cells]
    centre = [values.narrow(1, 1, num_cells + 4) for values in cells]
    above = [values.narrow(1, 2, num_cells + 4) for values in cells]
    slopes = [_van_leer_slope(a, b, c) for a, b, c in zip(below, centre, above, strict=True)]
    half = 0.5 * step_over_width
    rho, vel, _, _, prs = centre
    changes = [
        vel * slopes[0] + rho * slopes[1],
        vel * slopes[1] + slopes[4] * inverse_density.narrow(1, 1, num_cells + 4),
        vel * slopes[2],
        vel * slopes[3],
        vel * slopes[4] + gamma * prs * slopes[1],
    ]
    evolved = [values - half * change for values, change in zip(centre, changes, strict=True)]
    upper = [values + 0.5 * slope for values, slope in zip(evolved, slopes, strict=True)]
    lower = [values - 0.5 * slope for values, slope in zip(evolved, slopes, strict=True)]
    for positive in (0, 4):
        smallest = 0.01 * centre[positive]
        upper[positive] = torch.maximum(upper[positive], smallest)
        lower[positive] = torch.maximum(lower[positive], smallest)

    num_faces = num_cells + 3
    fluxes = _hllc_flux(
        [values.narrow(1, 0, num_faces) for values in upper],
        [values.narrow(1, 1, num_faces) for values in lower],
        gamma,
    )
    updated = [
        values.narrow(1, 2, num_cells + 2)
        - step_over_width * (flux.narrow(1, 1, num_cells + 2) - flux.narrow(1, 0, num_cells + 2))
        for values, flux in zip(variables, fluxes, strict=True)
    ]
    squared = updated[1].square() + updated[2].square() + updated[3].square()
    # Written so that NaN counts as lost.
    is_lost = ~((updated[0] > 0) & (2 * updated[0] * updated[4] > squared))
    is_corrected = is_lost.narrow(1, 0, num_cells + 1) | is_lost.narrow(1, 1, num_cells + 1)
    return (*updated, *fluxes, is_corrected)


def _primitive(variables: Sequence[Tensor], gamma: Tensor) -> tuple[list[Tensor], Tensor]:
    """Density, velocities and a pressure that is never lost in the total energy; and 1 / density."""
    density, *momenta, energy = variables
    inverse_density = 1 / density
    normal, first, second = (momentum * inverse_density for momentum in momenta)
    kinetic = 0.5 * density * (normal * normal + first * first + second * second)
    pressure = torch.maximum((gamma - 1) * (energy - kinetic), PRESSURE_RESOLUTION * kinetic)
    return [density, normal, first, second, pressure.clamp(min=1e-30)], inverse_density


def _advance_along(padded: Tensor, axis: int, step_over_width: Tensor, gamma: Tensor) -> list[Tensor]:
    """Variables `(B, X, Y, Z)`, positive, after one step along an axis of what `_pad` gives."""
    clouds, _, *grid = padded.shape
    length, columns = grid[axis], math.prod(grid[axis + 1 :])
    num_cells = grid[axis] = length - 2 * NUM_GHOSTS
    # Rows lie behind each other as if they were one: what is made of the ghosts between them is left out.
    one_row = padded.view(clouds, NUM_VARIABLES, -1, columns)
    *values, is_corrected = _sweep(one_row, step_over_width, gamma)
    updated, fluxes = values[:NUM_VARIABLES], values[NUM_VARIABLES:]
    # Faces whose flux is replaced, by the cell below: few of all, and often none.
    where = is_corrected.flatten().nonzero().squeeze(1)
    if len(where):
        below = where // columns % is_corrected.shape[1] + 2
        is_inside = (below % length >= 2) & (below % length < num_cells + 3)
        where, below = where[is_inside], below[is_inside]
        cloud, column = where // is_corrected[0].numel(), where % columns
        beside = torch.stack([one_row[cloud, :, below, column], one_row[cloud, :, below + 1, column]])
        better = _hll_flux(beside.movedim(2, 0), gamma)
        step = step_over_width.flatten()[cloud]
        # There is one row more of cells, and two more of fluxes, than of these faces.
        first = where + columns * cloud
        place = first + columns * (cloud + 1)
        for new, flux, first_order in zip(updated, fluxes, better, strict=True):
            change = step * (first_order - flux.view(-1)[place])
            new.view(-1).index_add_(0, first, change, alpha=-1).index_add_(0, first + columns, change)
    rows = (new.narrow(1, 1, new.shape[1] - 1).unfold(1, num_cells, length).mT for new in updated)
    return [each.reshape(clouds, *grid) for each in rows]


@Compiled
def _signal_speed(conserved: Tensor, gamma: Tensor) -> Tensor:
    """Fastest |velocity component| + sound speed of each cloud `(B,)` [km/s]."""
    density, energy = conserved[:, MASS], conserved[:, ENERGY]
    velocity = conserved[:, MOMENTUM] / density.unsqueeze(1)
    kinetic = 0.5 * density * velocity.square().sum(dim=1)
    pressure = torch.maximum((gamma - 1) * (energy - kinetic), PRESSURE_RESOLUTION * kinetic)
    speed = velocity.abs().amax(dim=1) + torch.sqrt(gamma * pressure / density)
    return speed.flatten(1).amax(dim=1)


def signal_speed(conserved: Tensor, gamma: Tensor) -> Tensor:
    """Fastest |velocity component| + sound speed of each cloud.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)`, see `to_primitive`.
    gamma
        Ratio of specific heats, 0-d tensor.

    Returns
    -------
    Tensor
        `(B,)` [km/s].
    """
    if native.takes(conserved):
        return native.signal_speed(conserved, float(gamma))
    return _signal_speed(conserved, gamma)


def advance(
    conserved: Tensor,
    time_step: Tensor,
    cell_width: float,
    gamma: Tensor,
    boundary: Boundary,
    *,
    reverse: bool = False,
) -> Tensor:
    """Advance a batch of clouds by one step: three sweeps, one along each axis.

    Alternate `reverse` from step to step: two steps together are then second order in time (Strang 1968).

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)`, see `to_primitive`.
    time_step
        One a cloud `(B,)` [pc/(km/s)], at most `cell_width / signal_speed`.
    cell_width
        [pc].
    gamma
        Ratio of specific heats, 0-d tensor.
    boundary
        `"open"` (zero gradient) or `"periodic"`, for all sides.
    reverse
        Sweep z, y, x instead of x, y, z.
    """
    step_over_width = time_step / cell_width
    axes = (2, 1, 0) if reverse else (0, 1, 2)
    if native.takes(conserved):
        return native.advance(conserved, step_over_width, axes, float(gamma), boundary == "periodic")
    density, *momenta, energy = conserved.unbind(1)
    for axis in axes:
        # The momentum along the sweep comes first.
        order = [axis, *(other for other in range(3) if other != axis)]
        padded = _pad([density, *(momenta[k] for k in order), energy], axis, boundary)
        density, *advanced, energy = _advance_along(padded, axis, step_over_width.view(-1, 1, 1), gamma)
        for k, momentum in zip(order, advanced, strict=True):
            momenta[k] = momentum
    return torch.stack([density, *momenta, energy], dim=1)
