"""One simulated supernova: a turbulent cloud, the explosion, and the gas after it, with and without."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from astropy import units as u
from torch import Tensor

from mim3d.compilation import Compiled
from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.supernova import native
from mim3d.supernova.blast import explode
from mim3d.supernova.cooling import CoolingCurve, cool, theta_of_temperature
from mim3d.supernova.emissivity import CoolingTable
from mim3d.supernova.hydrodynamics import (
    ENERGY,
    MASS,
    MOMENTUM,
    Boundary,
    advance,
    kinetic_energy_density,
    signal_speed,
    to_conserved,
)
from mim3d.supernova.turbulence import velocity_field
from mim3d.supernova.units import (
    ADIABATIC_INDEX,
    MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY,
    MSUN_KMS2_PER_ERG,
    MYR_PER_CODE_TIME,
)

COURANT_NUMBER = 0.8
"""Time step over the largest that the one-dimensional sweeps allow."""

NEARLY_ISOTHERMAL_INDEX = 1.01
"""Ratio of specific heats while the turbulence decays; after every step the temperature is set back too."""

PAPER_FRAME_TIMES_MYR = tuple(index / 150 for index in range(20))
"""The first frame and the 19 of arXiv 2302.00026's published forecast, 1/150 Myr apart."""

Place = Literal["centre", "filament", "void", "off-centre"]
"""Where a star explodes, other than at given coordinates."""

COOLING = (*get_args(CoolingTable), "none")
"""How the gas of a simulation may radiate."""

FIELD_UNITS: dict[str, u.UnitBase] = {
    "density": u.Msun / u.pc**3,
    "pressure": u.Msun / u.pc**3 * (u.km / u.s) ** 2,
    "temperature": u.K,
    "velocity": u.km / u.s,
}
"""The fields that a simulation gives, with their units."""


class SimulationError(RuntimeError):
    """The gas became unphysical: not the user's mistake but the solver's."""


@dataclass(frozen=True)
class CloudSettings:
    """The gas, the star and the box of one simulation; the defaults are the papers'.

    Parameters
    ----------
    seed
        Of the turbulence.
    hydrogen_density
        Mean number density of hydrogen nuclei [cm^-3].
    mach_number
        Root mean square speed over the isothermal speed of sound when the turbulence starts to decay; 0 for
        uniform gas.
    temperature
        Of the cloud, and the floor of the cooling [K].
    explosion_energy
        [erg].
    heated_mass
        Mass of the gas that takes up the energy [Msun].
    box_size
        Side length of the cubic box [pc].
    grid
        Cells along each axis that the gas is simulated with.
    voxels
        Voxels along each axis of the result; divides `grid`.
    frame_times
        Times of the frames after the explosion [Myr], increasing from 0, which is the gas just before it.
    site
        Where the star explodes: coordinates from the lower corner of the box [pc]; the centre where not
        given. `"filament"` is the densest, `"void"` the thinnest voxel of the gas at that moment, within
        `site_reach` of the centre; `"off-centre"` a place drawn evenly over the outer half of that distance.
    site_reach
        How far from the centre of the box a site may be that is not given by coordinates [pc].
    explosions
        Stars that explode at the same moment with the same energy: the first at `site`, the others at places
        drawn within `site_reach`.
    decay
        How long the turbulence decays before the explosion, in crossing times box_size / rms speed.
    cooling
        Table of the emissivity, `"gnat2007"` or `"schure2009"` (see `emissivity`); `"none"`: the gas does not
        radiate.
    """

    seed: int = 0
    hydrogen_density: float = 44.5
    mach_number: float = 5.0
    temperature: float = 100.0
    explosion_energy: float = 1e51
    heated_mass: float = 100.0
    box_size: float = 60.0
    grid: int = 64
    voxels: int = 32
    frame_times: tuple[float, ...] = PAPER_FRAME_TIMES_MYR
    site: tuple[float, float, float] | Place | None = None
    site_reach: float = 12.0
    explosions: int = 1
    decay: float = 0.5
    cooling: CoolingTable | Literal["none"] = "gnat2007"

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("hydrogen_density", "temperature", "heated_mass", "box_size"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be > 0 and finite, found {getattr(self, name)}")
        for name in ("mach_number", "explosion_energy", "decay"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be >= 0 and finite, found {getattr(self, name)}")
        if not 10 <= self.temperature <= 1e4:
            raise UserError(f"temperature of the cloud must be 10 to 10000 K, found {self.temperature}")
        if self.grid < 8 or self.voxels < 1 or self.grid % self.voxels:
            raise UserError(
                f"grid must be at least 8 and a multiple of voxels, found grid {self.grid} and "
                f"voxels {self.voxels}"
            )
        times = self.frame_times
        if len(times) < 2 or times[0] != 0 or any(b <= a for a, b in pairwise(times)):
            raise UserError(f"frame_times must start at 0 and increase, found {times}")
        if self.cooling not in COOLING:
            raise UserError(f"cooling is one of {', '.join(COOLING)}; found {self.cooling!r}")
        if not 0 < self.site_reach < self.box_size / 2:
            raise UserError(
                f"site_reach must be > 0 and less than half of the box, {self.box_size / 2} pc, "
                f"found {self.site_reach}"
            )
        if self.explosions < 1:
            raise UserError(f"explosions must be at least 1, found {self.explosions}")
        if isinstance(self.site, str):
            if self.site not in get_args(Place):
                raise UserError(
                    f"site is three coordinates [pc] or one of {', '.join(get_args(Place))}; "
                    f"found {self.site!r}"
                )
        elif self.site is not None and not (
            len(self.site) == 3 and all(0 < coordinate < self.box_size for coordinate in self.site)
        ):
            raise UserError(f"site {self.site} pc is outside the box of {self.box_size} pc")

    @property
    def cell_width(self) -> float:
        """[pc]."""
        return self.box_size / self.grid


def _largest_steps(conserved: Tensor, cell_width: float, gamma: Tensor, remaining: Tensor) -> Tensor:
    """Stable time steps `(B,)` that divide what remains evenly; 0 for a cloud that has arrived."""
    stable = COURANT_NUMBER * cell_width / signal_speed(conserved, gamma).double()
    return torch.where(remaining > 0, remaining / torch.ceil(remaining / stable).clamp(min=1), 0.0)


def _keep_temperature(conserved: Tensor, theta: Tensor, gamma: Tensor) -> Tensor:
    """Set P / rho everywhere."""
    energy = kinetic_energy_density(conserved) + conserved[:, MASS] * theta / (gamma - 1)
    return torch.cat([conserved[:, :ENERGY], energy.unsqueeze(1)], dim=1)


def decay_turbulence(conserved: Tensor, duration: Tensor, cell_width: float, theta: Tensor) -> Tensor:
    """Let turbulence decay in a periodic box at constant temperature.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)`, see `hydrodynamics.to_primitive`, with the energy of `NEARLY_ISOTHERMAL_INDEX`.
    duration
        One a cloud `(B,)` [pc/(km/s)].
    cell_width
        [pc].
    theta
        P / rho of the gas, one a cloud `(B, 1, 1, 1)` [(km/s)^2].
    """
    gamma = torch.tensor(NEARLY_ISOTHERMAL_INDEX, device=conserved.device)
    remaining = duration.double()
    reverse = False
    while bool((remaining > 0).any()):
        steps = _largest_steps(conserved, cell_width, gamma, remaining)
        conserved = advance(
            conserved, steps.to(conserved.dtype), cell_width, gamma, "periodic", reverse=reverse
        )
        conserved = _keep_temperature(conserved, theta, gamma)
        remaining = torch.where(remaining - steps > 1e-9 * duration, remaining - steps, 0.0)
        reverse = not reverse
    return conserved


@Compiled
def _radiate(conserved: Tensor, time_step_myr: Tensor, gamma: Tensor, *tables: Tensor) -> Tensor:
    """Energy density of gas after it has radiated; `tables` are those of a `CoolingCurve`."""
    density, kinetic = conserved[:, MASS], kinetic_energy_density(conserved)
    theta = (gamma - 1) * (conserved[:, ENERGY] - kinetic) / density
    theta = cool(torch.maximum(theta, tables[0][-1].to(theta.dtype)), density, time_step_myr, *tables)
    return kinetic + density * theta / (gamma - 1)


def evolve_step(
    conserved: Tensor,
    remaining_myr: Tensor,
    cell_width: float,
    curve: CoolingCurve | None = None,
    boundary: Boundary = "open",
    *,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Evolve clouds of monatomic gas by one step.

    Parameters
    ----------
    conserved, cell_width, curve, boundary
        As in `evolve`.
    remaining_myr
        Time to the next stop of each cloud `(B,)` float64 [Myr]; one that has none left stays as it is.
    reverse
        See `hydrodynamics.advance`.

    Returns
    -------
    Tensor
        Conserved variables after the step.
    Tensor
        How long it was for each cloud `(B,)` float64 [Myr].

    Raises
    ------
    SimulationError
        If a cell is no longer finite.
    """
    gamma = torch.tensor(ADIABATIC_INDEX, device=conserved.device)
    steps = _largest_steps(conserved, cell_width, gamma, remaining_myr / MYR_PER_CODE_TIME)
    if not bool(steps.isfinite().all()):
        raise SimulationError("the gas is no longer finite")
    step = steps.to(conserved.dtype)
    conserved = advance(conserved, step, cell_width, gamma, boundary, reverse=reverse)
    if curve is not None:
        step_myr = step * MYR_PER_CODE_TIME
        if native.takes(conserved):
            unit = MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY
            native.radiate(conserved, step_myr, float(gamma), unit, curve.tables)
        else:
            conserved[:, ENERGY] = _radiate(conserved, step_myr.view(-1, 1, 1, 1), gamma, *curve.tables)
    return conserved, steps * MYR_PER_CODE_TIME


def evolve(
    conserved: Tensor,
    times_myr: Sequence[float],
    cell_width: float,
    curve: CoolingCurve | None = None,
    boundary: Boundary = "open",
) -> Iterator[Tensor]:
    """Evolve clouds of monatomic gas and stop at the given times.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)` at time 0, see `hydrodynamics.to_primitive`.
    times_myr
        Increasing times to stop at [Myr].
    cell_width
        [pc].
    curve
        How the gas cools; none: it does not.
    boundary
        `"open"` or `"periodic"`.

    Yields
    ------
    Tensor
        Conserved variables at each time.

    Raises
    ------
    SimulationError
        If a cell is no longer finite.
    """
    now_myr, reverse = 0.0, False
    for time_myr in times_myr:
        interval = time_myr - now_myr
        remaining = torch.full((len(conserved),), interval, dtype=torch.float64, device=conserved.device)
        while bool((remaining > 0).any()):
            conserved, step_myr = evolve_step(
                conserved, remaining, cell_width, curve, boundary, reverse=reverse
            )
            remaining = torch.where(remaining - step_myr > 1e-9 * interval, remaining - step_myr, 0.0)
            reverse = not reverse
        if not bool(torch.isfinite(conserved).all()):
            raise SimulationError(f"the gas is no longer finite at {time_myr:.4g} Myr")
        now_myr = time_myr
        yield conserved


GAS_FIELDS = ("density", "temperature", "velocity")
"""Fields from which the solver can go on."""


def gas_of(trajectory: Trajectory) -> tuple[Tensor, float]:
    """Take the last frame of a trajectory into the solver.

    Parameters
    ----------
    trajectory
        Gas on cubic voxels with `GAS_FIELDS`.

    Returns
    -------
    Tensor
        Conserved variables `(1, 5, X, Y, Z)` of monatomic gas, float32.
    float
        Side of a voxel [pc].

    Raises
    ------
    UserError
        If the box has not three axes of cubic voxels, or a field is missing, of another unit or impossible.
    """
    if missing := [name for name in GAS_FIELDS if name not in trajectory.fields]:
        raise UserError(f"the gas solver needs its {missing[0]}; there are: {', '.join(trajectory.fields)}")
    if trajectory.num_axes != 3:
        raise UserError(f"the gas solver needs three axes of space, found {trajectory.num_axes}")
    length = unit_factor(trajectory.length_unit, u.pc, "the length unit")
    factors = {name: unit_factor(trajectory.units[name], FIELD_UNITS[name], name) for name in GAS_FIELDS}
    sides = np.divide(trajectory.box_size, trajectory.grid) * length
    if np.ptp(sides) > 1e-6 * sides[0]:
        raise UserError(f"the gas solver needs cubic voxels, found sides of {tuple(sides)} pc")
    density, temperature, velocity = (
        torch.from_numpy(trajectory.fields[name][-1].astype(np.float32) * np.float32(factors[name]))
        for name in GAS_FIELDS
    )
    if not (all(x.isfinite().all() for x in (density, temperature, velocity)) and (density > 0).all()):
        raise UserError("the gas solver needs a density > 0 and finite values everywhere")
    curve = CoolingCurve()
    theta = theta_of_temperature(temperature).clamp(min=curve.theta_floor)
    primitive = torch.cat((density[None], velocity.movedim(-1, 0), (density * theta)[None]))
    return to_conserved(primitive[None], ADIABATIC_INDEX), float(sides[0])


def turbulent_clouds(clouds: Sequence[CloudSettings], device: torch.device | str = "cpu") -> Tensor:
    """Gas just before the explosion.

    Returns
    -------
    Tensor
        Conserved variables `(B, 5, grid, grid, grid)` of monatomic gas.
    """
    first = clouds[0]
    shape = (len(clouds), 1, first.grid, first.grid, first.grid)

    def per_cloud(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1, 1, 1)

    thetas = [CoolingCurve(temperature_floor=cloud.temperature).theta_floor for cloud in clouds]
    speeds = [cloud.mach_number * math.sqrt(theta) for cloud, theta in zip(clouds, thetas, strict=True)]
    durations = [
        cloud.decay * cloud.box_size / speed if speed > 0 else 0.0
        for cloud, speed in zip(clouds, speeds, strict=True)
    ]
    density = per_cloud(
        [cloud.hydrogen_density * MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY for cloud in clouds]
    ).expand(shape)
    theta = per_cloud(thetas)
    velocity = np.stack(
        [velocity_field(cloud.seed, cloud.grid, speed) for cloud, speed in zip(clouds, speeds, strict=True)]
    )
    primitive = torch.cat([density, torch.from_numpy(velocity).to(device), density * theta], dim=1)
    conserved = decay_turbulence(
        to_conserved(primitive, NEARLY_ISOTHERMAL_INDEX),
        torch.tensor(durations, device=device),
        first.cell_width,
        theta[:, 0],
    )
    return _keep_temperature(conserved, theta[:, 0], torch.tensor(ADIABATIC_INDEX, device=device))


def choose_sites(cloud: CloudSettings, density: np.ndarray) -> list[tuple[float, float, float]]:
    """Say where the stars of a cloud explode.

    Parameters
    ----------
    cloud
        Its settings.
    density
        Gas at that moment `(voxels, voxels, voxels)`, any unit.

    Returns
    -------
    list of tuple
        Coordinates from the lower corner of the box [pc], one triple for each explosion, the first for
        `cloud.site`.
    """
    # Apart from the seed of the turbulence, which it must not change.
    generator = np.random.default_rng([cloud.seed, 1])
    centre = np.full(3, cloud.box_size / 2)

    def drawn(innermost: float) -> np.ndarray:
        direction = generator.normal(size=3)
        volume = generator.uniform(innermost**3, 1.0)
        return centre + cloud.site_reach * volume ** (1 / 3) * direction / np.linalg.norm(direction)

    if cloud.site is None or cloud.site == "centre":
        first = centre
    elif cloud.site == "off-centre":
        first = drawn(0.5)
    elif isinstance(cloud.site, str):
        width = cloud.box_size / len(density)
        places = (np.moveaxis(np.indices(density.shape), 0, -1) + 0.5) * width
        in_reach = np.linalg.norm(places - centre, axis=-1) <= max(cloud.site_reach, width)
        sign = 1 if cloud.site == "filament" else -1
        voxel = np.unravel_index(np.where(in_reach, sign * density, -np.inf).argmax(), density.shape)
        first = places[voxel]
    else:
        first = np.array(cloud.site)
    sites = [first, *(drawn(0.0) for _ in range(cloud.explosions - 1))]
    return [(float(x), float(y), float(z)) for x, y, z in sites]


def pool(conserved: Tensor, voxels: int) -> Tensor:
    """Average density, momentum density and pressure over cubes of cells, which keeps mass and heat.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)` of monatomic gas.
    voxels
        Voxels along each axis of what is returned; divides the cells.

    Returns
    -------
    Tensor
        `(B, 5, voxels, voxels, voxels)`.
    """
    pressure = (ADIABATIC_INDEX - 1) * (conserved[:, ENERGY] - kinetic_energy_density(conserved))
    values = torch.cat([conserved[:, :ENERGY], pressure.unsqueeze(1)], dim=1)
    return torch.nn.functional.avg_pool3d(values, conserved.shape[-1] // voxels)


def _exploded(state: Tensor, cloud: CloudSettings, sites: Sequence[tuple[float, float, float]]) -> Tensor:
    energy = cloud.explosion_energy * MSUN_KMS2_PER_ERG
    for site in sites:
        state = explode(state, cloud.cell_width, site, energy, cloud.heated_mass)
    return state


def to_fields(pooled: Tensor, fields: Sequence[str], curve: CoolingCurve) -> dict[str, np.ndarray]:
    """Return fields of one cloud's frames by name, `(T, *space)` and `(T, *space, 3)` float32.

    Parameters
    ----------
    pooled
        What `pool` gives `(T, 5, *space)`.
    fields
        Some of `FIELD_UNITS`.
    curve
        How the gas cools.
    """
    density, momentum, pressure = pooled[:, 0], pooled[:, 1:4], pooled[:, 4]
    theta = (pressure / density).clamp(min=curve.theta_floor)
    values = {
        "density": density,
        "pressure": density * theta,
        "temperature": curve.temperature(theta),
        "velocity": (momentum / density.unsqueeze(1)).movedim(1, -1),
    }
    return {name: values[name].float().cpu().numpy() for name in fields}


def simulate(
    clouds: Sequence[CloudSettings],
    *,
    fields: Sequence[str] = tuple(FIELD_UNITS),
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda fraction: None,
) -> list[Trajectory]:
    """Simulate supernovae in turbulent clouds, each with its twin that does not explode.

    Parameters
    ----------
    clouds
        They share grid, voxels, box and frame times.
    fields
        Which of `FIELD_UNITS` to keep.
    device
        Where to compute.
    progress
        Called with the share of frames that is done, 0 to 1.

    Returns
    -------
    list of Trajectory
        One a cloud. Its first frame is the gas just before the explosion. `parameters` holds the settings,
        the Mach number when the star explodes, and the wall-clock seconds that the blast took
        (`simulation_seconds`, without turbulence and twin, divided by the clouds in the batch).

    Raises
    ------
    UserError
        If the clouds do not fit in one batch, or a field is unknown.
    SimulationError
        If a cell is no longer finite.
    """
    first = clouds[0]
    for cloud in clouds:
        for name in ("grid", "voxels", "box_size", "frame_times", "cooling", "temperature"):
            if getattr(cloud, name) != getattr(first, name):
                raise UserError(
                    f"clouds of one batch share their {name}, "
                    f"found {getattr(first, name)} and {getattr(cloud, name)}"
                )
    for name in fields:
        if name not in FIELD_UNITS:
            raise UserError(f"unknown field {name!r}; a simulation gives {', '.join(FIELD_UNITS)}")
    # Gas that does not radiate has a temperature too.
    curve = (
        CoolingCurve(first.temperature)
        if first.cooling == "none"
        else CoolingCurve(first.temperature, first.cooling)
    )
    before = turbulent_clouds(clouds, device)
    voxels = pool(before, first.voxels)[:, MASS].cpu().numpy()
    sites = [choose_sites(cloud, density) for cloud, density in zip(clouds, voxels, strict=True)]
    after = torch.stack([_exploded(*each) for each in zip(before, clouds, sites, strict=True)])
    times = first.frame_times
    num_frames = 2 * (len(times) - 1)
    runs, seconds = [], []
    for start in (before, after):
        started = time.perf_counter()
        frames = [pool(before, first.voxels)]
        for state in evolve(start, times[1:], first.cell_width, None if first.cooling == "none" else curve):
            frames.append(pool(state, first.voxels))
            progress((len(runs) * (len(times) - 1) + len(frames) - 1) / num_frames)
        runs.append(torch.stack(frames, dim=1))
        seconds.append((time.perf_counter() - started) / len(clouds))
    twins, explosions = runs
    speed_of_sound = math.sqrt(curve.theta_floor)
    trajectories = []
    for index, cloud in enumerate(clouds):
        velocity = before[index, MOMENTUM] / before[index, MASS]
        rms_speed = float(velocity.square().sum(dim=0).mean().sqrt())
        common = Trajectory(
            fields=to_fields(twins[index], fields, curve),
            units={name: FIELD_UNITS[name] for name in fields},
            times=np.array(times),
            box_size=(cloud.box_size,) * 3,
            site=sites[index][0],
            parameters={
                "seed": u.Quantity(cloud.seed),
                "hydrogen_density": cloud.hydrogen_density / u.cm**3,
                "mach_number": u.Quantity(cloud.mach_number),
                "mach_number_at_explosion": u.Quantity(rms_speed / speed_of_sound),
                "initial_temperature": cloud.temperature * u.K,
                "explosion_energy": cloud.explosion_energy * u.erg,
                "heated_mass": cloud.heated_mass * u.Msun,
                "explosions": u.Quantity(cloud.explosions),
                "simulation_grid": u.Quantity(cloud.grid),
                "simulation_seconds": seconds[1] * u.s,
            },
        )
        trajectories.append(replace(common, fields=to_fields(explosions[index], fields, curve), twin=common))
    return trajectories
