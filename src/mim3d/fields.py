"""Named fields on a grid: what readers, solver, forecaster and writers hand each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy import units as u

from mim3d.errors import UserError

BOUNDARIES = ("open", "periodic", "wall", "mixed")
"""What `Trajectory.boundary` may be."""


@dataclass(frozen=True)
class Trajectory:
    """Fields on a regular grid at increasing times, with units.

    Parameters
    ----------
    fields
        Name to array. A scalar field is `(T, *space)`; a vector field is `(T, *space, axes)`, components
        last, as in The Well. `space` has 1 to 3 axes.
    units
        Name to unit, one for every field (`astropy.units.dimensionless_unscaled` for plain images).
    times
        Times of the frames `(T,)`, strictly increasing, in `time_unit`.
    box_size
        Side lengths of the box, one per axis of space, in `length_unit`.
    origin
        Coordinates of the box's lower corner, in `length_unit`; zero where not given.
    boundary
        `"open"`, `"periodic"` or `"wall"`, for all sides; `"mixed"` where sides differ.
    parameters
        Numbers that describe the run (for instance `mach_number`, `explosion_energy`), with units.
    site
        Where the star explodes, in `length_unit`, in the same coordinates as `origin`; the centre of the box
        where not given.
    twin
        The same gas evolved without the explosion, at the same times, where it is known.

    Raises
    ------
    UserError
        If shapes, units and times do not fit together.
    """

    fields: Mapping[str, np.ndarray]
    units: Mapping[str, u.UnitBase]
    times: np.ndarray
    box_size: tuple[float, ...]
    time_unit: u.UnitBase = u.Myr
    length_unit: u.UnitBase = u.pc
    origin: tuple[float, ...] = ()
    boundary: str = "open"
    parameters: Mapping[str, u.Quantity] = field(default_factory=dict)
    site: tuple[float, ...] = ()
    twin: Trajectory | None = None

    def __post_init__(self) -> None:
        """Check that shapes, units and times fit together."""
        for name in ("box_size", "origin", "site"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        num_axes = len(self.box_size)
        if not self.fields:
            raise UserError("a trajectory needs at least one field")
        if num_axes not in (1, 2, 3):
            raise UserError(f"space has 1 to 3 axes, box_size has {num_axes}")
        if not all(0 < side < np.inf for side in self.box_size):
            raise UserError(f"box_size must be > 0 along every axis, found {self.box_size}")
        for name in ("origin", "site"):
            place = getattr(self, name)
            if len(place) not in (0, num_axes) or not np.isfinite(place).all():
                raise UserError(
                    f"{name} needs one finite coordinate for each of {num_axes} axes, found {place}"
                )
        if self.boundary not in BOUNDARIES:
            raise UserError(f"boundary must be one of {', '.join(BOUNDARIES)}, found {self.boundary!r}")
        times = np.asarray(self.times, dtype=np.float64)
        if times.ndim != 1 or not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
            raise UserError("times must be finite and strictly increasing")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "origin", self.origin or (0.0,) * num_axes)
        centre = tuple(low + side / 2 for low, side in zip(self.origin, self.box_size, strict=True))
        object.__setattr__(self, "site", self.site or centre)
        grid: tuple[int, ...] | None = None
        for name, values in self.fields.items():
            if name not in self.units:
                raise UserError(f"field {name!r} has no unit")
            is_vector = values.ndim == num_axes + 2 and values.shape[-1] == num_axes
            if values.ndim != num_axes + 1 and not is_vector:
                raise UserError(
                    f"field {name!r} has shape {values.shape}; a box of {num_axes} axes needs "
                    f"(T, *space) or (T, *space, {num_axes})"
                )
            if values.shape[0] != len(times):
                raise UserError(f"field {name!r} has {values.shape[0]} frames, times has {len(times)}")
            space = values.shape[1 : num_axes + 1]
            if grid is not None and space != grid:
                raise UserError(f"field {name!r} is on a grid of {space}, the fields before it on {grid}")
            if 0 in space:
                raise UserError(f"field {name!r} has no voxels: its grid is {space}")
            grid = space
        if self.twin is not None and (self.twin.grid != grid or not np.array_equal(self.twin.times, times)):
            raise UserError("the twin must be on the same grid at the same times as the run")

    @property
    def num_axes(self) -> int:
        """Number of axes of space."""
        return len(self.box_size)

    @property
    def grid(self) -> tuple[int, ...]:
        """Voxels along each axis of space."""
        return next(iter(self.fields.values())).shape[1 : self.num_axes + 1]

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Side lengths of a voxel, in `length_unit`."""
        return tuple(side / count for side, count in zip(self.box_size, self.grid, strict=True))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.times)

    def is_vector(self, name: str) -> bool:
        """Tell whether a field has one component per axis of space."""
        return self.fields[name].ndim == self.num_axes + 2

    def channel_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the channels that the given fields become: a vector gives one per axis.

        `("density", "velocity")` gives `("density", "velocity_x", "velocity_y", "velocity_z")`.
        """
        return tuple(
            channel
            for name in names
            for channel in (
                [f"{name}_{axis}" for axis in "xyz"[: self.num_axes]] if self.is_vector(name) else [name]
            )
        )

    def to_channels(self, names: tuple[str, ...]) -> np.ndarray:
        """Stack fields as channels of one array.

        Parameters
        ----------
        names
            The fields, in the order wanted; a vector gives one channel per axis.

        Returns
        -------
        numpy.ndarray
            `(T, C, *space)`, in the order of `channel_names`.

        Raises
        ------
        UserError
            If a field is missing.
        """
        return np.stack(list(self._channels(names)), axis=1)

    def _channels(self, names: tuple[str, ...]) -> Iterator[np.ndarray]:
        for name in names:
            if name not in self.fields:
                raise UserError(f"no field {name!r} here; there are: {', '.join(self.fields)}")
            values = self.fields[name]
            if self.is_vector(name):
                yield from np.moveaxis(values, -1, 0)
            else:
                yield values

    def channel(self, name: str) -> np.ndarray:
        """Return one channel `(T, *space)`: a scalar field, or a component such as `velocity_x`.

        Raises
        ------
        UserError
            If there is none.
        """
        if name in self.fields and not self.is_vector(name):
            return np.asarray(self.fields[name])
        base, _, axis = name.rpartition("_")
        axes = "xyz"[: self.num_axes]
        if axis and axis in axes and base in self.fields and self.is_vector(base):
            return np.asarray(self.fields[base])[..., axes.index(axis)]
        raise UserError(f"no channel {name!r} here; there are: {', '.join(self.fields)}")

    def window(self, start: int, stop: int) -> Trajectory:
        """Frames `start` to `stop - 1` (the twin's with them)."""
        return replace(
            self,
            fields={name: values[start:stop] for name, values in self.fields.items()},
            times=self.times[start:stop],
            twin=None if self.twin is None else self.twin.window(start, stop),
        )


def unit_factor(given: Any, wanted: u.UnitBase, what: str = "the value") -> float:
    """Return by what to multiply to go from one unit to another.

    Raises
    ------
    UserError
        If the units measure different things; `what` says whose they are.
    """
    try:
        return float(given.to(wanted))  # pyright: ignore[reportArgumentType]
    except u.UnitConversionError:
        raise UserError(
            f"{what} is in {unit_name(given)}, which cannot be turned into {unit_name(wanted)}"
        ) from None


def unit_name(unit: u.UnitBase) -> str:
    """Return how people write a unit: Msun rather than astropy's solMass."""
    return unit.to_string().replace("solMass", "Msun") or "no unit"
