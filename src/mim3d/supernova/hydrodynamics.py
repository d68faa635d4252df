"""A finite-volume solver for the Euler equations on a uniform 3-D grid, several clouds a batch.

Dimension-split MUSCL-Hancock (van Leer 1979; Toro 2009, chapter 14) with the HLLC flux (Toro, Spruce and
Speares 1994). Where the second-order update would leave a cell without positive density or pressure, the
fluxes through its faces are replaced by first-order HLL fluxes (Harten, Lax and van Leer 1983), which keep
positivity and, being fluxes, conservation.

Inside: pc, Msun, km/s; time in pc/(km/s), see `units.MYR_PER_CODE_TIME`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mim3d.compilation import Compiled
from mim3d.errors import UserError

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


def _pad(values: Tensor, boundary: Boundary) -> Tensor:
    """Add `NUM_GHOSTS` cells at both ends of x: copies of the last cell, or of the other side."""
    size = values.shape[2]
    if boundary == "periodic":
        low, high = values.narrow(2, size - NUM_GHOSTS, NUM_GHOSTS), values.narrow(2, 0, NUM_GHOSTS)
    else:
        repeats = (-1, -1, NUM_GHOSTS, -1, -1)
        low, high = values.narrow(2, 0, 1).expand(repeats), values.narrow(2, size - 1, 1).expand(repeats)
    return torch.cat([low, values, high], dim=2)


def _turn(conserved: Tensor, by: int) -> Tensor:
    """Call y x, z y and x z (`by` = 1), or x y, y z and z x (-1): axes and momentum alike."""
    density, momentum, energy = conserved.split((1, 3, 1), dim=1)
    turned = torch.cat([density, momentum.roll(-by, dims=1), energy], dim=1)
    return turned.permute(0, 1, 3, 4, 2) if by > 0 else turned.permute(0, 1, 4, 2, 3)


_SMALLEST = torch.finfo(torch.float32).tiny


def _van_leer_slope(below: Tensor, centre: Tensor, above: Tensor) -> Tensor:
    """Twice the product of the differences over their sum, 0 where their signs differ."""
    left, right = centre - below, above - centre
    left_size, right_size = left.abs(), right.abs()
    return (left_size * right + left * right_size) / (left_size + right_size).clamp(min=_SMALLEST)


def _wave_speeds(left: list[Tensor], right: list[Tensor], gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds on the slowest and the fastest wave (Davis 1988)."""
    sound_left = torch.sqrt(gamma * left[4] / left[0])
    sound_right = torch.sqrt(gamma * right[4] / right[0])
    slowest = torch.minimum(left[1] - sound_left, right[1] - sound_right)
    fastest = torch.maximum(left[1] + sound_left, right[1] + sound_right)
    return slowest, fastest


def _energy_density(state: list[Tensor], gamma: Tensor) -> Tensor:
    density, normal, first, second, pressure = state
    return pressure / (gamma - 1) + 0.5 * density * (normal * normal + first * first + second * second)


def _hllc_flux(left: list[Tensor], right: list[Tensor], gamma: Tensor) -> list[Tensor]:
    """HLLC flux through a face; states are (density, normal velocity, two tangential ones, pressure)."""
    slowest, fastest = _wave_speeds(left, right, gamma)
    mass_left = left[0] * (slowest - left[1])
    mass_right = right[0] * (fastest - right[1])
    contact = (right[4] - left[4] + left[1] * mass_left - right[1] * mass_right) / (mass_left - mass_right)
    # 1 or 0, at which `lerp` is exact: uncompiled it takes a quarter of the time of `where`.
    is_left = (contact >= 0).to(contact.dtype)
    density, normal, first, second, pressure = (
        torch.lerp(b, a, is_left) for a, b in zip(left, right, strict=True)
    )
    outer = torch.lerp(fastest, slowest, is_left)
    # Zero where the flow is supersonic: the flux is then that of the upwind state alone.
    reach = torch.lerp(fastest.clamp(min=0), slowest.clamp(max=0), is_left)
    energy = _energy_density([density, normal, first, second, pressure], gamma)
    flux_mass = density * (outer - normal)
    star_density = flux_mass / (outer - contact)
    star_energy = star_density * (energy / density + (contact - normal) * (contact + pressure / flux_mass))
    change = star_density - density
    return [
        density * normal + reach * change,
        density * normal * normal + pressure + reach * (star_density * contact - density * normal),
        density * normal * first + reach * change * first,
        density * normal * second + reach * change * second,
        (energy + pressure) * normal + reach * (star_energy - energy),
    ]


def _hll_flux(left: list[Tensor], right: list[Tensor], gamma: Tensor) -> list[Tensor]:
    """HLL flux through a face, from the cells beside it."""
    slowest, fastest = _wave_speeds(left, right, gamma)
    slowest, fastest = slowest.clamp(max=0), fastest.clamp(min=0)
    energies = _energy_density(left, gamma), _energy_density(right, gamma)
    width = 1 / (fastest - slowest)
    fluxes = []
    for variable in range(NUM_VARIABLES):
        terms = []
        for state, energy in zip((left, right), energies, strict=True):
            density, normal, _, _, pressure = state
            if variable == 0:
                conserved, flux = density, density * normal
            elif variable == NUM_VARIABLES - 1:
                conserved, flux = energy, (energy + pressure) * normal
            else:
                conserved = density * state[variable]
                flux = conserved * normal + (pressure if variable == 1 else 0)
            terms.append((conserved, flux))
        (conserved_left, flux_left), (conserved_right, flux_right) = terms
        fluxes.append(
            (
                fastest * flux_left
                - slowest * flux_right
                + slowest * fastest * (conserved_right - conserved_left)
            )
            * width
        )
    return fluxes


@Compiled
def _sweep(padded: Tensor, step_over_width: Tensor, gamma: Tensor) -> Tensor:
    """Advance a batch by one step along x.

    Parameters
    ----------
    padded
        Conserved variables `(B, 5, X, Y, Z)` with `NUM_GHOSTS` more cells at both ends of x.
    step_over_width
        Time step over cell width `(B, 1, 1, 1)` [1/(km/s)].
    gamma
        Ratio of specific heats, a 0-d tensor (so that a new value does not recompile).
    """
    num_cells = padded.shape[2] - 2 * NUM_GHOSTS
    density, *momenta, energy = padded.unbind(1)
    normal, first, second = (momentum / density for momentum in momenta)
    kinetic = 0.5 * density * (normal * normal + first * first + second * second)
    pressure = torch.maximum((gamma - 1) * (energy - kinetic), PRESSURE_RESOLUTION * kinetic)
    pressure = pressure.clamp(min=1e-30)
    cells = [density, normal, first, second, pressure]

    # Cells -2 .. N+1 get slopes; their faces -3/2 .. N+1/2 fluxes; cells -1 .. N a candidate.
    below = [values.narrow(1, 0, num_cells + 4) for values in cells]
    centre = [values.narrow(1, 1, num_cells + 4) for values in cells]
    above = [values.narrow(1, 2, num_cells + 4) for values in cells]
    slopes = [_van_leer_slope(a, b, c) for a, b, c in zip(below, centre, above, strict=True)]
    half = 0.5 * step_over_width
    rho, vel, _, _, prs = centre
    changes = [
        vel * slopes[0] + rho * slopes[1],
        vel * slopes[1] + slopes[4] / rho,
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
    second_order = _hllc_flux(
        [values.narrow(1, 0, num_faces) for values in upper],
        [values.narrow(1, 1, num_faces) for values in lower],
        gamma,
    )
    conserved = [values.narrow(1, 2, num_cells + 2) for values in padded.unbind(1)]
    candidate = [
        values - step_over_width * (flux.narrow(1, 1, num_cells + 2) - flux.narrow(1, 0, num_cells + 2))
        for values, flux in zip(conserved, second_order, strict=True)
    ]
    kinetic = 0.5 * (candidate[1].square() + candidate[2].square() + candidate[3].square()) / candidate[0]
    # Written so that NaN counts as lost.
    is_lost = ~((candidate[0] > 0) & (candidate[4] > kinetic))
    # A compiled function cannot look, and need not: there it costs little.
    if not torch.compiler.is_compiling() and not is_lost.any():
        return torch.stack([values.narrow(1, 1, num_cells) for values in candidate], dim=1)
    first_order = _hll_flux(
        [values.narrow(1, 0, num_faces) for values in centre],
        [values.narrow(1, 1, num_faces) for values in centre],
        gamma,
    )
    is_corrected = is_lost.narrow(1, 0, num_cells + 1) | is_lost.narrow(1, 1, num_cells + 1)
    updated = []
    for values, high, low in zip(conserved, second_order, first_order, strict=True):
        flux = torch.where(is_corrected, low.narrow(1, 1, num_cells + 1), high.narrow(1, 1, num_cells + 1))
        change = flux.narrow(1, 1, num_cells) - flux.narrow(1, 0, num_cells)
        updated.append(values.narrow(1, 1, num_cells) - step_over_width * change)
    return torch.stack(updated, dim=1)


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
    return _signal_speed(conserved, gamma)


def compile_solver(device: torch.device | str = "cpu") -> None:
    """Compile what takes the solver's time, for one cloud of any size, unless that has been done.

    Raises
    ------
    UserError
        If that is turned off, or fails.
    """
    cells = torch.ones(1, NUM_VARIABLES, 8, 8, 8, device=device)
    gamma = torch.tensor(5 / 3, device=device)
    made = _sweep.compile(cells, cells[:, 0, :1, :1, :1], gamma), _signal_speed.compile(cells, gamma)
    if None in made:
        raise UserError("the gas solver is not compiled: MIM3D_COMPILE is 0, or what is said above")


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
    step_over_width = (time_step / cell_width).view(-1, 1, 1, 1)
    # Every sweep is along x, whose neighbours lie in one piece, of gas that is turned between sweeps.
    for _ in range(3):
        if reverse:
            conserved = _turn(conserved, -1)
        conserved = _sweep(_pad(conserved, boundary), step_over_width, gamma)
        if not reverse:
            conserved = _turn(conserved, 1)
    return conserved.contiguous()
