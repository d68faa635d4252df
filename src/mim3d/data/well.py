"""The Well's HDF5 layout, with units.

A file holds trajectories of the same length on the same grid: `t0_fields/<name>` is
`(trajectories, T, *space)`, `t1_fields/<name>` `(trajectories, T, *space, axes)`. Two things are added that
other readers of the layout do not see: a `units` attribute on every field, coordinate and scalar, and a group
`twin` that holds the same `t0_fields` and `t1_fields` of the gas evolved without the explosion.

References
----------
Ohana et al. 2024, "The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning",
arXiv 2412.00568, appendix on the data format.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from astropy import units as u

from mim3d.data.files import as_unit, existing, replacing
from mim3d.errors import UserError
from mim3d.fields import Trajectory

BOUNDARIES = ("wall", "open", "periodic")
_AXES = ("x", "y", "z")
_OWN_ATTRIBUTES = frozenset(
    {
        "dataset_name",
        "grid_type",
        "n_spatial_dims",
        "n_trajectories",
        "simulation_parameters",
        "box_size",
        "origin",
        "explosion_site",
    }
)

Units = Mapping[str, u.UnitBase | str]


class WellFile:
    """A file in The Well's layout, read frame by frame.

    Opening reads the shapes and names alone; `frames` reads what is asked for, so memory holds what is in use
    and not the file. Scalar and vector fields are read; tensor fields (`t2_fields`) are left out.

    Parameters
    ----------
    path
        The file.
    units
        Units of what the file gives none for: a field's, a scalar's or `"time"` or `"length"` (of x, y, z).
        Published files of The Well carry no units. What the file itself says wins.

    Raises
    ------
    UserError
        If the file is not there, is cut short, or is not in The Well's layout.
    """

    def __init__(self, path: str | Path, units: Units | None = None) -> None:
        self.path = existing(path)
        self._given_units = {name: as_unit(unit, name) for name, unit in (units or {}).items()}
        try:
            # `write` makes files appear whole: a lock adds nothing, and network file systems may refuse it.
            self._file: Any = h5py.File(self.path, "r", locking=False)
        except OSError as error:
            reason = "is cut short" if "truncated" in str(error) else "is not an HDF5 file, or is damaged"
            raise UserError(f"{self.path} {reason}") from error
        try:
            with self._naming_file():
                self._read_layout()
        except BaseException:
            self._file.close()
            raise

    def _read_layout(self) -> None:
        for group in ("dimensions", "t0_fields"):
            if group not in self._file:
                raise UserError(f"{self.path} is not in The Well's layout: it has no group {group!r}")
        dimensions = self._file["dimensions"]
        if "time" not in dimensions or "spatial_dims" not in dimensions.attrs:
            raise UserError(f"{self.path} is not in The Well's layout: no dimensions/time or spatial_dims")
        self.axes: tuple[str, ...] = _texts(dimensions.attrs["spatial_dims"])
        grid_type = _text(self._file.attrs.get("grid_type", "cartesian"))
        if grid_type != "cartesian":
            raise UserError(f"{self.path} has a {grid_type} grid; only cartesian grids are read")
        missing = [axis for axis in self.axes if axis not in dimensions]
        if missing or not 1 <= len(self.axes) <= 3:
            raise UserError(
                f"{self.path} is not in The Well's layout: axes {self.axes}, no dimensions/{missing}"
            )
        self.grid: tuple[int, ...] = tuple(dimensions[axis].shape[-1] for axis in self.axes)
        self.num_frames: int = dimensions["time"].shape[-1]
        self.fields: dict[str, Any] = self._find_fields(self._file)
        if not self.fields:
            raise UserError(f"{self.path} holds no scalar or vector field")
        self.twin_fields: dict[str, Any] = (
            self._find_fields(self._file["twin"]) if "twin" in self._file else {}
        )
        self.count: int = int(self._file.attrs.get("n_trajectories", self._count_samples()))
        for name, dataset in self.fields.items():
            self._check_shape(name, dataset)
        for name, dataset in self.twin_fields.items():
            self._check_shape(f"twin/{name}", dataset)

    def _find_fields(self, group: Any) -> dict[str, Any]:
        found = {}
        for order in ("t0_fields", "t1_fields"):
            if order in group:
                names = _texts(group[order].attrs.get("field_names", list(group[order])))
                for name in names:
                    if name not in group[order]:
                        raise UserError(
                            f"{self.path} lists a field {name!r} in {order} that it does not hold"
                        )
                    found[name] = group[order][name]
        return found

    def _count_samples(self) -> int:
        varying = [data.shape[0] for data in self.fields.values() if data.attrs.get("sample_varying", True)]
        return varying[0] if varying else 1

    def _check_shape(self, name: str, dataset: Any) -> None:
        varying = dataset.attrs.get("dim_varying", [True] * len(self.axes))
        expected = [count for count, varies in zip(self.grid, varying, strict=True) if varies]
        if dataset.attrs.get("time_varying", True):
            expected.insert(0, self.num_frames)
        if dataset.attrs.get("sample_varying", True):
            expected.insert(0, self.count)
        if _is_vector(dataset):
            expected.append(len(self.axes))
        if dataset.shape != tuple(expected):
            raise UserError(
                f"{self.path}: field {name!r} has shape {dataset.shape}, "
                f"its dimensions say {tuple(expected)} (trajectories, time, *space)"
            )

    @contextlib.contextmanager
    def _naming_file(self) -> Iterator[None]:
        """Turn whatever a damaged or odd file leads to into one error that names the file."""
        try:
            yield
        except UserError as error:
            if str(self.path) in str(error):
                raise
            raise UserError(f"{self.path}: {error}") from error
        except (
            OSError,
            RuntimeError,
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            MemoryError,
        ) as error:
            raise UserError(f"{self.path} is damaged or not in The Well's layout: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def boundary(self) -> str:
        """`"open"`, `"periodic"` or `"wall"` where all sides are alike, else `"mixed"`.

        Sides of which the file says nothing are open, as The Well's own reader has it.
        """
        kinds = {kind for sides in self.boundaries.values() for kind in sides}
        return kinds.pop() if len(kinds) == 1 else "mixed"

    @property
    def boundaries(self) -> dict[str, tuple[str, str]]:
        """Boundary condition of the lower and upper side of every axis."""
        sides = {axis: ["open", "open"] for axis in self.axes}
        with self._naming_file():
            for entry in self._file.get("boundary_conditions", {}).values():
                kind = _text(entry.attrs["bc_type"]).lower()
                if kind not in BOUNDARIES:
                    raise UserError(
                        f"{self.path} has boundaries of kind {kind!r}; known are {', '.join(BOUNDARIES)}"
                    )
                names = _texts(entry.attrs["associated_dims"])
                mask = (
                    np.asarray(entry["mask"]) if "mask" in entry else np.ones((2,) * len(names), dtype=bool)
                )
                for position, name in enumerate(names):
                    ends = np.moveaxis(mask, position, 0)
                    for side in (0, -1):
                        # A side is a wall only where all of it is one, as in The Well's own reader.
                        if ends[side].all() if kind == "wall" else ends[side].any():
                            sides[name][side] = kind
        return {axis: (low, high) for axis, (low, high) in sides.items()}

    def unit(self, name: str) -> u.UnitBase:
        """Return the unit of a field or scalar, or of `"time"` or `"length"`.

        Raises
        ------
        UserError
            If neither the file nor the `units` given know it.
        """
        return self.units_of([name])[name]

    def units_of(self, names: Sequence[str]) -> dict[str, u.UnitBase]:
        """Return several units at once, so that one error names all that are missing."""
        with self._naming_file():
            found = {name: self._find_unit(name) for name in names}
        missing = [name for name, unit in found.items() if unit is None]
        if missing:
            example = ", ".join(f'"{name}": "..."' for name in missing)
            raise UserError(
                f"{self.path} gives no units for {', '.join(missing)}; pass them: units={{{example}}}"
            )
        return {name: unit for name, unit in found.items() if unit is not None}

    def _find_unit(self, name: str) -> u.UnitBase | None:
        holders: dict[str, Any] = dict(self.fields)
        if "scalars" in self._file:
            holders.update(self._file["scalars"])
        holders["time"] = self._file["dimensions/time"]
        holders["length"] = self._file["dimensions"][self.axes[0]]
        if name in holders and "units" in holders[name].attrs:
            return as_unit(_text(holders[name].attrs["units"]), name)
        return self._given_units.get(name)

    def times(self, trajectory: int = 0) -> np.ndarray:
        """Return the times of a trajectory's frames `(T,)`, in the unit of `"time"`."""
        self._check_trajectory(trajectory)
        with self._naming_file():
            return self._coordinate("time", trajectory)

    def _coordinate(self, name: str, trajectory: int) -> np.ndarray:
        dataset = self._file["dimensions"][name]
        values = dataset[trajectory] if dataset.ndim > 1 else dataset[()]
        return np.asarray(values, dtype=np.float64).reshape(-1, dataset.shape[-1])[0]

    def box(self, trajectory: int = 0) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the side lengths of the box and its lower corner, in the unit of `"length"`.

        From the voxel centres, unless the file says the box itself (float32 centres give it to 7 digits).
        """
        attributes = self._file.attrs
        with self._naming_file():
            if "box_size" in attributes and "origin" in attributes:
                return _floats(attributes["box_size"]), _floats(attributes["origin"])
            sides, corners = [], []
            for axis in self.axes:
                centres = self._coordinate(axis, trajectory)
                if len(centres) < 2:
                    raise UserError(f"{self.path} has one voxel along {axis} and no attribute box_size")
                steps = np.diff(centres)
                # Centres in float32 are uneven by their rounding.
                if steps.min() <= 0 or np.ptp(steps) > 1e-3 * steps.mean() + 4e-7 * np.abs(centres).max():
                    raise UserError(f"{self.path}: voxels are not evenly spaced along {axis}")
                step = (centres[-1] - centres[0]) / (len(centres) - 1)
                sides.append(float(step * len(centres)))
                corners.append(float(centres[0] - step / 2))
            return tuple(sides), tuple(corners)

    def site(self, trajectory: int = 0) -> tuple[float, ...]:
        """Return where the star explodes, in the unit of `"length"`; the box's centre if not known."""
        with self._naming_file():
            if "explosion_site" in self._file.attrs:
                sites = np.asarray(self._file.attrs["explosion_site"], dtype=np.float64)
                return _floats(sites[trajectory] if sites.ndim == 2 else sites)
        sides, corners = self.box(trajectory)
        return tuple(low + side / 2 for low, side in zip(corners, sides, strict=True))

    def parameters(self, trajectory: int = 0) -> dict[str, u.Quantity]:
        """Return the scalars of the run that do not change with time.

        Those without a unit, in the file or given, come as dimensionless numbers.
        """
        found: dict[str, u.Quantity] = {}
        with self._naming_file():
            scalars = self._file.get("scalars", {})
            names = _texts(scalars.attrs.get("field_names", list(scalars))) if len(scalars) else ()
            for name in names:
                dataset = scalars[name]
                if dataset.attrs.get("time_varying", False):
                    continue
                value = dataset[trajectory] if dataset.attrs.get("sample_varying", False) else dataset[()]
                unit = self._find_unit(name) or u.dimensionless_unscaled
                found[name] = u.Quantity(float(np.asarray(value).reshape(())), unit)
        return found

    def frames(
        self, name: str, trajectory: int = 0, frames: slice = slice(None), *, twin: bool = False
    ) -> np.ndarray:
        """Read frames of one field.

        Parameters
        ----------
        name
            The field.
        trajectory
            Which of the file's runs.
        frames
            Which frames; all by default.
        twin
            The field of the run without the explosion.

        Returns
        -------
        numpy.ndarray
            `(T, *space)` or `(T, *space, axes)`, in the unit of the field. What the file holds once for all
            times or along an axis is repeated (a read-only view).

        Raises
        ------
        UserError
            If there is no such field, trajectory or twin, or the data are damaged.
        """
        self._check_trajectory(trajectory)
        fields = self.twin_fields if twin else self.fields
        if name not in fields:
            which = "twin has no field" if twin else "no field"
            raise UserError(f"{which} {name!r} in {self.path}; there are: {', '.join(fields) or 'none'}")
        dataset = fields[name]
        index: list[Any] = []
        if dataset.attrs.get("sample_varying", True):
            index.append(trajectory)
        time_varying = bool(dataset.attrs.get("time_varying", True))
        if time_varying:
            index.append(frames)
        with self._naming_file():
            values = np.asarray(dataset[tuple(index)])
        count = len(range(*frames.indices(self.num_frames)))
        if not time_varying:
            values = values[None]
        varying = dataset.attrs.get("dim_varying", [True] * len(self.axes))
        for axis, varies in enumerate(varying, start=1):
            if not varies:
                values = np.expand_dims(values, axis)
        shape = (count, *self.grid) + ((len(self.axes),) if _is_vector(dataset) else ())
        return values if values.shape == shape else np.broadcast_to(values, shape)

    def trajectory(
        self, trajectory: int = 0, fields: Sequence[str] | None = None, frames: slice = slice(None)
    ) -> Trajectory:
        """Read one run, with its twin where there is one.

        Parameters
        ----------
        trajectory
            Which of the file's runs.
        fields
            Names of the fields to read; all by default.
        frames
            Which frames; all by default.

        Raises
        ------
        UserError
            If a field or its unit is missing, or times, shapes or data are not fit to use.
        """
        with self._naming_file():
            names = list(self.fields if fields is None else fields)
            for name in names:
                if name not in self.fields:
                    raise UserError(f"no field {name!r} in {self.path}; there are: {', '.join(self.fields)}")
            units = self.units_of([*names, "time", "length"])
            box_size, origin = self.box(trajectory)
            common: dict[str, Any] = {
                "times": self.times(trajectory)[frames],
                "box_size": box_size,
                "time_unit": units.pop("time"),
                "length_unit": units.pop("length"),
                "origin": origin,
                "boundary": self.boundary,
                "parameters": self.parameters(trajectory),
                "site": self.site(trajectory),
            }
            twin = None
            if in_twin := [name for name in names if name in self.twin_fields]:
                values = {name: self.frames(name, trajectory, frames, twin=True) for name in in_twin}
                twin = Trajectory(fields=values, units={name: units[name] for name in in_twin}, **common)
            values = {name: self.frames(name, trajectory, frames) for name in names}
            return Trajectory(fields=values, units=units, twin=twin, **common)

    def _check_trajectory(self, trajectory: int) -> None:
        if not 0 <= trajectory < self.count:
            raise UserError(
                f"{self.path} holds {self.count} trajectories (0 to {self.count - 1}), no {trajectory}"
            )


def open(path: str | Path, units: Units | None = None) -> WellFile:
    """Open a file to read frames from it bit by bit; see `WellFile`."""
    return WellFile(path, units)


def count(path: str | Path) -> int:
    """Return how many trajectories a file holds."""
    with WellFile(path) as file:
        return file.count


def read(
    path: str | Path,
    trajectory: int = 0,
    units: Units | None = None,
    *,
    fields: Sequence[str] | None = None,
    frames: slice = slice(None),
) -> Trajectory:
    """Read one trajectory from a file in The Well's layout.

    Parameters
    ----------
    path
        The file.
    trajectory
        Which of the file's runs.
    units
        Units of what the file gives none for: a field's, `"time"` or `"length"`, for instance
        `{"density": "Msun / pc3", "time": "Myr", "length": "pc"}`.
    fields
        Names of the fields to read; all by default.
    frames
        Which frames; all by default.

    Raises
    ------
    UserError
        If the file is not there, cut short or of another layout, or if units are missing.
    """
    with WellFile(path, units) as file:
        return file.trajectory(trajectory, fields, frames)


def write(
    path: str | Path,
    trajectories: Trajectory | Sequence[Trajectory],
    *,
    dataset_name: str = "supernova_explosion",
    compression: str | None = None,
) -> None:
    """Write trajectories to one file in The Well's layout.

    The file appears under its name only once it is whole. Fields are stored in float32.

    Parameters
    ----------
    path
        The file; its folder is made if it is not there.
    trajectories
        One run or several with the same fields, units, grid, box and number of frames. Times, sites and
        parameters' values may differ.
    dataset_name
        Name of the data set; The Well's reader asks that all files of a folder carry the same.
    compression
        `"gzip"` or `"lzf"`, a frame a chunk; none by default.

    Raises
    ------
    UserError
        If the runs do not fit into one file, or it cannot be written.
    """
    runs = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    if not runs:
        raise UserError("no trajectories to write")
    _check_alike(runs)
    with replacing(path) as temporary:
        try:
            with h5py.File(temporary, "w", locking=False) as file:
                _write_runs(file, runs, dataset_name, compression)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error}") from error


def _write_runs(file: h5py.File, runs: list[Trajectory], dataset_name: str, compression: str | None) -> None:
    first = runs[0]
    axes = _AXES[: first.num_axes]
    file.attrs["dataset_name"] = dataset_name
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = first.num_axes
    file.attrs["n_trajectories"] = len(runs)
    file.attrs["box_size"] = first.box_size
    file.attrs["origin"] = first.origin
    file.attrs["explosion_site"] = np.array([run.site for run in runs])

    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = list(axes)
    times = np.stack([run.times for run in runs])
    same_times = bool(np.all(times == times[0]))
    time = dimensions.create_dataset("time", data=times[0] if same_times else times)
    time.attrs.update(sample_varying=not same_times, time_varying=True, units=_unit_text(first.time_unit))
    for axis, voxels, voxel, low in zip(axes, first.grid, first.voxel_size, first.origin, strict=True):
        centres = low + (np.arange(voxels) + 0.5) * voxel
        coordinate = dimensions.create_dataset(axis, data=centres.astype(np.float32))
        coordinate.attrs.update(sample_varying=False, time_varying=False, units=_unit_text(first.length_unit))

    boundaries = file.create_group("boundary_conditions")
    for axis, voxels in zip(axes, first.grid, strict=True):
        mask = np.zeros(voxels, dtype=bool)
        mask[[0, -1]] = True
        boundary = boundaries.create_group(f"{axis}_{first.boundary}")
        boundary.attrs.update(bc_type=first.boundary.upper(), sample_varying=False, time_varying=False)
        boundary.attrs["associated_dims"] = [axis]
        boundary.attrs["associated_fields"] = _no_texts()
        boundary.create_dataset("mask", data=mask)

    _write_parameters(file, runs)
    _write_fields(file, runs, compression)
    if first.twin is not None:
        _write_fields(
            file.create_group("twin"), [run.twin for run in runs if run.twin is not None], compression
        )


def _write_parameters(file: h5py.File, runs: list[Trajectory]) -> None:
    names = list(runs[0].parameters)
    file.attrs["simulation_parameters"] = names or _no_texts()
    scalars = file.create_group("scalars")
    scalars.attrs["field_names"] = names or _no_texts()
    for name in names:
        unit: Any = u.Quantity(runs[0].parameters[name]).unit
        values = np.array([u.Quantity(run.parameters[name]).to_value(unit) for run in runs], dtype=np.float64)
        same = bool(np.all(values == values[0]))
        file.attrs[name] = values[0] if same else values
        scalar = scalars.create_dataset(name, data=values[0] if same else values)
        scalar.attrs.update(sample_varying=not same, time_varying=False, units=_unit_text(unit))


def _write_fields(group: h5py.Group, runs: list[Trajectory], compression: str | None) -> None:
    first = runs[0]
    names_of_order = {0: [], 1: [], 2: []}
    for name in first.fields:
        names_of_order[int(first.is_vector(name))].append(name)
    for order, names in names_of_order.items():
        fields = group.create_group(f"t{order}_fields")
        fields.attrs["field_names"] = names or _no_texts()
        for name in names:
            shape = first.fields[name].shape
            dataset = fields.create_dataset(
                name,
                shape=(len(runs), *shape),
                dtype=np.float32,
                chunks=(1, 1, *shape[1:]) if compression else None,
                compression=compression,
                shuffle=True if compression else None,
            )
            for number, run in enumerate(runs):
                dataset[number] = np.asarray(run.fields[name], dtype=np.float32)
            dataset.attrs["dim_varying"] = np.ones(first.num_axes, dtype=bool)
            dataset.attrs.update(sample_varying=True, time_varying=True, units=_unit_text(first.units[name]))


def _check_alike(runs: list[Trajectory]) -> None:
    first = runs[0]
    if first.boundary not in BOUNDARIES:
        raise UserError(f"boundary {first.boundary!r} cannot be written; known are {', '.join(BOUNDARIES)}")
    for name in first.parameters:
        if name in _OWN_ATTRIBUTES:
            raise UserError(f"a parameter cannot be called {name!r}: The Well's layout uses that name itself")
    shape = _shape_of(first)
    for number, run in enumerate(runs):
        for what, expected in shape.items():
            found = _shape_of(run)[what]
            if found != expected:
                raise UserError(
                    f"trajectories of one file must have the same {what}: number 0 has {expected}, "
                    f"number {number} has {found}; write them to separate files"
                )


def _shape_of(run: Trajectory) -> dict[str, Any]:
    """Describe what runs in one file have in common."""
    return {
        "fields": tuple(run.fields),
        "units": {name: _unit_text(run.units[name]) for name in run.fields},
        "grid": run.grid,
        "number of frames": len(run),
        "box_size": run.box_size,
        "origin": run.origin,
        "length and time units": (_unit_text(run.length_unit), _unit_text(run.time_unit)),
        "boundary": run.boundary,
        "parameters": tuple(run.parameters),
        "twin": None if run.twin is None else tuple(run.twin.fields),
    }


def _is_vector(dataset: Any) -> bool:
    return str(dataset.name).rsplit("/", 2)[-2] == "t1_fields"


def _unit_text(unit: u.UnitBase) -> str:
    return unit.to_string()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in np.asarray(values).ravel())


def _no_texts() -> np.ndarray:
    return np.array([], dtype=h5py.string_dtype())


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in np.asarray(values).ravel())
