"""A checkpoint in, frames in units in, a forecast in units out."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from astropy import units as u

from mim3d import checkpoint as checkpoints
from mim3d.checkpoint import MODELS, REFINED_GUIDE_VERSION, Checkpoint, bundled_models
from mim3d.data import derived, symmetries
from mim3d.data.datasets import card
from mim3d.data.scaling import Scaling
from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.machine import (
    MemoryFormat,
    Precision,
    choose_device,
    forecast_channels_last,
    forecast_precision,
)
from mim3d.nn import RecurrentForecaster, set_channels_last
from mim3d.supernova.deposit import Particles, particles_in
from mim3d.trust import Guard, SpreadScale, Verdict
from mim3d.trust.spread import LOGARITHMIC, regions, spread_values

AFFECTED = "affected"
"""The channel, and field, that says how sure it is that the explosion changes a voxel's density: 0 to 1."""

AFFECTED_DENSITY_CHANGE = 0.25
"""Change of density since the start above which a voxel counts as affected, for models that do not say."""

POSITIVE_FIELDS = ("density", "pressure", "temperature")
"""Quantities that are > 0 everywhere, or the file is wrong."""

ASSUMED: dict[str, u.Quantity] = {"temperature": derived.UNSEEN["temperature"]}
"""What is taken for fields of the gas that nobody says: the temperature of a cold cloud, the training's."""

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Forecast:
    """What a network expects to happen.

    Parameters
    ----------
    trajectory
        The frames that were forecast, in the model's units, times in Myr after the start's, with the field
        `affected` (0 to 1) beside the others where density is forecast.
    initial
        The frames that the forecast started from, in the same units.
    seconds
        Wall-clock time that the network took.
    model
        Name or path of the model.
    device
        Where it ran.
    affected_threshold
        Value of `affected` above which gas counts as affected.
    affected_is_forecast
        Whether the network forecast `affected` itself; if not it is 1 where density differs from the start's
        by more than `AFFECTED_DENSITY_CHANGE`.
    verdict
        Whether the gas is like that which the model was trained on; None where the model has no guard.
    spread
        By channel, the standard deviation of the forecast `(T, *space)`: of log10 of density, pressure and
        temperature [dex], in the channel's unit else. Empty for a forecast of one member.
    spread_is_calibrated
        Whether it was scaled to the errors on validation clouds; if not it is how much the members disagree.
    members
        How many forecasts this is the mean of.
    is_guide_alone
        Whether the network's correction of the guide was left out, because the verdict is that it does not
        know such gas: these are the frames of the gas solver.
    """

    trajectory: Trajectory
    initial: Trajectory
    seconds: float
    model: str
    device: str
    affected_threshold: float = 0.5
    affected_is_forecast: bool = False
    verdict: Verdict | None = None
    spread: Mapping[str, np.ndarray] = field(default_factory=dict)
    spread_is_calibrated: bool = False
    members: int = 1
    is_guide_alone: bool = False

    def __len__(self) -> int:
        """Return the number of frames that were forecast."""
        return len(self.trajectory)

    @property
    def is_trusted(self) -> bool:
        """Whether the model has a guard, and it says that the gas is inside of the training range."""
        return self.verdict is not None and self.verdict.is_inside

    @property
    def regions(self) -> np.ndarray:
        """Far gas, edge and inside of the affected gas, `(T, *space)`; see `mim3d.trust.spread.regions`."""
        if AFFECTED not in self.trajectory.fields:
            return np.zeros((len(self), *self.trajectory.grid), dtype=np.int64)
        return regions(self.trajectory.fields[AFFECTED])

    def affected_mask(self, frame: int = -1) -> np.ndarray:
        """Tell which voxels the explosion has changed by then.

        Parameters
        ----------
        frame
            Frame of the forecast; the last by default.

        Returns
        -------
        numpy.ndarray
            Booleans `(*space)`.

        Raises
        ------
        UserError
            If density was not forecast.
        """
        if AFFECTED not in self.trajectory.fields:
            raise UserError("this model forecasts no density, so it cannot say which gas is affected")
        return np.asarray(self.trajectory.fields[AFFECTED][frame]) > self.affected_threshold

    def affected_particles(self, particles: Particles) -> np.ndarray:
        """Name the particles that lie where the explosion changes the gas in any frame of the forecast.

        Parameters
        ----------
        particles
            The gas that the forecast started from.

        Returns
        -------
        numpy.ndarray
            Their ids, in the order of the particles.
        """
        mask = np.any([self.affected_mask(frame) for frame in range(len(self))], axis=0)
        box = self.trajectory.box_size
        center = [low + side / 2 for low, side in zip(self.trajectory.origin, box, strict=True)]
        return particles_in(mask, particles, center, box)


class Forecaster:
    """A trained network with what it needs to take and give fields in units.

    Parameters
    ----------
    checkpoint
        Weights and settings.
    device
        `"cpu"`, `"cuda"`, `"cuda:1"`, ...; `"auto"` takes a GPU where there is one.
    name
        What to call the model in reports.
    precision
        Of the convolutions; see `forecast_precision`.
    memory_format
        Of the tensors; see `forecast_channels_last`.

    Raises
    ------
    UserError
        If there is no such device, precision or memory format.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | None = "auto",
        name: str = "model",
        precision: Precision = "auto",
        memory_format: MemoryFormat = "auto",
    ) -> None:
        self.checkpoint = checkpoint
        self.name = name
        if checkpoint.settings.get("guided") and checkpoint.format_version < REFINED_GUIDE_VERSION:
            raise UserError(
                f"{name} was trained with a coarser guide than is made now, and would correct it wrongly: "
                "train it on (--network.start takes its weights)"
            )
        self.device = choose_device(device)
        self.precision = forecast_precision(precision, self.device)
        self.channels_last = forecast_channels_last(memory_format, self.device, self.precision)
        self.network = checkpoint.build_network().to(self.device).eval()
        set_channels_last(self.network, self.channels_last)
        self.scaling = None if checkpoint.scaling is None else Scaling.from_dict(checkpoint.scaling)
        self.guard = None if checkpoint.guard is None else Guard.from_dict(checkpoint.guard)
        self.spread_scale = None if checkpoint.spread is None else SpreadScale.from_dict(checkpoint.spread)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that the network forecasts, in order; empty where the checkpoint does not name them."""
        return tuple(self.checkpoint.fields)

    @property
    def input_length(self) -> int:
        """Frames that a forecast starts from."""
        return self.checkpoint.input_length or 1

    def forecast(self, trajectory: Trajectory, steps: int = 19, members: int = 1) -> Forecast:
        """Forecast the frames after the first ones of a trajectory.

        Parameters
        ----------
        trajectory
            The gas at the start. The first `input_length` frames are used; what comes after is not looked
            at, so that a whole simulation may be given.
        steps
            Frames to forecast, one model time step apart.
        members
            Of more than one, the forecast is their mean: each sees the gas turned or mirrored another way
            (the cube has 48), and what it says is turned back. How much they disagree gives the spread.

        Notes
        -----
        A guided network corrects the gas solver only in gas that its guard knows. Of other gas the forecast
        is what the solver makes of it; members still give the spread.

        Returns
        -------
        Forecast
            The frames, in the model's units.

        Raises
        ------
        UserError
            If a field is missing, has the wrong unit or impossible values, or if grid, box or time step are
            not those that the model was trained on.
        """
        if steps < 1:
            raise UserError(f"steps must be at least 1, got {steps}")
        initial = self.prepare(trajectory)
        channels = self.channels or initial.channel_names(tuple(initial.fields))
        _wait_for(self.device)
        start = time.perf_counter()
        frames = self._to_tensor(initial, channels)
        guide = self._guide(initial, channels, steps) if self.network.guided else None
        verdict = None if self.guard is None else self.guard.check(trajectory.window(0, self.input_length))
        is_guide_alone = guide is not None and verdict is not None and not verdict.is_inside
        turns = _choose_turns(initial, members)
        limits = self._limits(frames, channels)
        vectors = _vectors((*channels, *self.checkpoint.static), initial)
        forecast_vectors = _vectors(channels, initial)

        def ask_network(turn: symmetries.Symmetry) -> np.ndarray:
            turned = symmetries.apply(frames, turn, vectors)[None]
            ahead = None if guide is None else symmetries.apply(guide, turn, forecast_vectors)[None]
            with torch.inference_mode(), self._precise():
                future = self.network.forecast(turned, steps, limits, ahead)[0, :, : len(channels)]
                return self._unscaled(symmetries.apply(future, turn.inverse, forecast_vectors), channels)

        if guide is not None and is_guide_alone:
            values = self._unscaled(guide[:steps], channels)
        elif members == 1:
            values = ask_network(turns[0])
        else:
            values = np.empty(0)
        moments = _Moments()
        if members > 1:
            for turn in turns:
                one = ask_network(turn)
                moments.add(np.stack([spread_values(name, one[:, k]) for k, name in enumerate(channels)], 1))
            if not is_guide_alone:
                values = moments.mean.astype(np.float32)
                for k, name in enumerate(channels):
                    if name in LOGARITHMIC:
                        values[:, k] = 10 ** values[:, k]
        seconds = time.perf_counter() - start
        made = replace(
            self._to_forecast(values, channels, initial, seconds),
            verdict=verdict,
            members=members,
            is_guide_alone=is_guide_alone,
        )
        if members == 1:
            return made
        spread = {name: moments.deviation[:, k] for k, name in enumerate(channels) if name != AFFECTED}
        if self.spread_scale is not None:
            spread = {name: self.spread_scale.apply(name, own, made.regions) for name, own in spread.items()}
        return replace(made, spread=spread, spread_is_calibrated=self.spread_scale is not None)

    def _unscaled(self, future: torch.Tensor, channels: Sequence[str]) -> np.ndarray:
        """Return scaled frames `(T, C, *space)` in the units of their channels."""
        scaling = self._scaling_of(channels)
        if scaling is not None:
            future = scaling.inverse(future, num_axes=self.network.num_axes)
        values = future.float().cpu().numpy()
        self._check_finite(values, channels)
        return values

    def _precise(self) -> torch.autocast:
        """Compute as precisely as was asked for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16)

    def _check_finite(self, values: np.ndarray, channels: Sequence[str]) -> None:
        if np.all(np.isfinite(values)):
            return
        frame, channel, *voxel = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise UserError(
            f"the forecast is not finite from frame {frame} on "
            f"({channels[channel]}, voxel {tuple(voxel)}): "
            f"the input may be far from what {self.name} was trained on"
        )

    def one_step(self, trajectory: Trajectory, steps: int) -> Trajectory | None:
        """Forecast every frame from the true ones before it.

        Parameters
        ----------
        trajectory
            A whole simulation.
        steps
            How many frames after the first `input_length` to forecast.

        Returns
        -------
        Trajectory or None
            As many of these frames as the simulation has; None where it has none, or has no twin and the
            model needs to be told what is affected, or where the network takes no single steps.

        Raises
        ------
        UserError
            As `forecast` does.
        """
        if not isinstance(self.network, RecurrentForecaster):
            return None
        length = min(self.input_length + steps, len(trajectory))
        needs_twin = AFFECTED in self.channels
        if length <= self.input_length or (
            needs_twin and (trajectory.twin is None or "density" not in trajectory.twin.fields)
        ):
            return None
        initial = self.prepare(trajectory)
        channels = self.channels or initial.channel_names(tuple(initial.fields))
        truth = self.prepare(trajectory, length)
        if needs_twin and trajectory.twin is not None:
            marked = derived.affected(trajectory.fields["density"], trajectory.twin.fields["density"])
            truth = replace(
                truth,
                fields={**truth.fields, AFFECTED: marked[:length]},
                units={**truth.units, AFFECTED: u.dimensionless_unscaled},
            )
        frames = self._to_tensor(truth, channels)
        start = time.perf_counter()
        with torch.inference_mode(), self._precise():
            future = self.network.unroll(frames[None], length - 1)[
                0, self.input_length - 1 :, : len(channels)
            ]
            scaling = self._scaling_of(channels)
            if scaling is not None:
                future = scaling.inverse(future, num_axes=initial.num_axes)
        values = future.float().cpu().numpy()
        return self._to_forecast(values, channels, initial, time.perf_counter() - start).trajectory

    def prepare(self, trajectory: Trajectory, frames: int | None = None) -> Trajectory:
        """Return the frames that a forecast starts from, checked, in the model's units, times and lengths.

        Parameters
        ----------
        trajectory
            Gas on the model's grid.
        frames
            How many of its first frames; `input_length` where not given.

        Raises
        ------
        UserError
            As `forecast` does.
        """
        self._check_space(trajectory)
        if len(trajectory) < self.input_length:
            raise UserError(
                f"{self.name} starts from {self.input_length} frames, the trajectory has {len(trajectory)}"
            )
        start = _completed(trajectory.window(0, frames or self.input_length), self.assumed(trajectory))
        fields: dict[str, np.ndarray] = {}
        units: dict[str, u.UnitBase] = {}
        for name in self._field_names(start):
            fields[name], units[name] = self._in_model_units(start, name)
            _check_values(name, fields[name], units[name], start.num_axes)
        time_unit = start.time_unit if self.checkpoint.time_step is None else u.Myr
        length_unit = start.length_unit if self.checkpoint.box_size is None else u.pc
        to_length = unit_factor(start.length_unit, length_unit, "the length unit")
        times = start.times * unit_factor(start.time_unit, time_unit, "the time unit")
        self._check_time_step(times)
        return Trajectory(
            fields=fields,
            units=units,
            times=times,
            box_size=tuple(side * to_length for side in start.box_size),
            time_unit=time_unit,
            length_unit=length_unit,
            origin=tuple(x * to_length for x in start.origin),
            boundary=start.boundary,
            parameters=start.parameters,
            site=tuple(x * to_length for x in start.site),
        )

    def assumed(self, trajectory: Trajectory) -> dict[str, u.Quantity]:
        """Tell what is assumed of the gas because it is needed and the trajectory does not say it."""
        needed = (*self.channels, *self.checkpoint.static)
        return {k: value for k, value in ASSUMED.items() if k in needed and k not in trajectory.fields}

    def _field_names(self, trajectory: Trajectory) -> list[str]:
        """Names of the fields that the network's channels are or follow from, given ones too."""
        if not self.channels:
            return list(trajectory.fields)
        names: list[str] = []
        for channel in (*self.channels, *self.checkpoint.static):
            if channel in derived.DERIVED and channel not in trajectory.fields:
                names += derived.NEEDED_BY_MARKER.get(channel, ())
            else:
                names.append(_field_of(channel, trajectory))
        for name in names:
            if name not in trajectory.fields:
                raise UserError(
                    f"{self.name} needs the field {name!r}; there are: {', '.join(trajectory.fields)}"
                    + _hint(self.name, trajectory.fields)
                )
        return list(dict.fromkeys(names))

    def _in_model_units(self, trajectory: Trajectory, name: str) -> tuple[np.ndarray, u.UnitBase]:
        values, given = np.asarray(trajectory.fields[name], dtype=np.float64), trajectory.units[name]
        known = self.checkpoint.units or {}
        wanted = known.get(name) or known.get(f"{name}_x")
        if wanted is None:
            return values, given
        unit = u.Unit(wanted)
        return values * unit_factor(given, unit, f"field {name!r}"), unit

    def _check_space(self, trajectory: Trajectory) -> None:
        grid, box_size = self.checkpoint.grid, self.checkpoint.box_size
        num_axes = self.network.num_axes
        if trajectory.num_axes != num_axes:
            raise UserError(f"{self.name} works on {num_axes} axes, the input has {trajectory.num_axes}")
        if grid is not None and tuple(grid) != tuple(trajectory.grid):
            raise UserError(
                f"{self.name} works on a grid of {_times(grid)} voxels, "
                f"the input has {_times(trajectory.grid)}"
            )
        if box_size is None:
            return
        given = np.asarray(trajectory.box_size) * unit_factor(trajectory.length_unit, u.pc, "the length unit")
        wanted = np.asarray(box_size, dtype=np.float64)
        if not np.allclose(given, wanted, rtol=_TOLERANCE, atol=0):
            voxels = f", voxels of {_times(wanted / np.asarray(grid))} pc" if grid is not None else ""
            raise UserError(
                f"{self.name} works on a box of {_times(wanted)} pc{voxels}; the input's box is "
                f"{_times(given)} pc, voxels of {_times(given / np.asarray(trajectory.grid))} pc"
            )

    def _check_time_step(self, times: np.ndarray) -> None:
        wanted = self.checkpoint.time_step
        if wanted is None or len(times) < 2:
            return
        for k, step in enumerate(np.diff(times)):
            if abs(step - wanted) > 0.01 * wanted:
                raise UserError(
                    f"{self.name} takes frames {wanted:.5g} Myr apart, frames {k} and {k + 1} of the input "
                    f"are {step:.5g} Myr apart"
                )

    def _to_tensor(self, initial: Trajectory, channels: Sequence[str]) -> torch.Tensor:
        """Scaled channels `(T, C, *space)`, the static ones last."""
        shape = (len(initial), *initial.grid)
        arrays = []
        for channel in channels:
            if channel == AFFECTED and channel not in initial.fields:
                # Before the explosion nothing differs from the gas without one.
                arrays.append(np.zeros(shape))
            else:
                arrays.append(_channel(initial, channel))
        static = self.checkpoint.static
        for name in static:
            is_marker = name in derived.MARKERS
            given = derived.static_marker(initial, name) if is_marker else _channel(initial, name)
            arrays.append(np.broadcast_to(given if is_marker else given[self.input_length - 1], shape))
        tensor = torch.from_numpy(np.stack(arrays, axis=1).astype(np.float32)).to(self.device)
        scaling = self._scaling_of((*channels, *static))
        return tensor if scaling is None else scaling.forward(tensor, num_axes=initial.num_axes)

    def _guide(self, initial: Trajectory, channels: Sequence[str], steps: int) -> torch.Tensor:
        """Scaled guide to as many frames as it takes `(T, C, *space)`."""
        count = self.network.guide_length(steps)
        times = self._time_step(initial) * np.arange(1, count + 1)
        names = tuple(dict.fromkeys(_field_of(channel, initial) for channel in channels))
        made = derived.guide(initial, times.tolist(), names, self.device)
        guide = torch.from_numpy(made).to(self.device)
        scaling = self._scaling_of(channels)
        return guide if scaling is None else scaling.forward(guide, num_axes=initial.num_axes)

    def _time_step(self, initial: Trajectory) -> float:
        """Time between the frames of a forecast, in the unit of `prepare`'s times."""
        step = self.checkpoint.time_step
        if step is None:
            step = float(np.diff(initial.times).mean()) if len(initial) > 1 else 1.0
        return step

    def _limits(self, frames: torch.Tensor, channels: Sequence[str]) -> torch.Tensor | None:
        """Lowest and highest scaled value `(2, C)` of every channel, in the training's data or the input."""
        scaling = self._scaling_of((*channels, *self.checkpoint.static))
        if scaling is None:
            return None
        known = torch.tensor([scaling.low, scaling.high], device=self.device)
        axes = (0, *range(2, frames.ndim))
        return torch.stack([known[0].minimum(frames.amin(axes)), known[1].maximum(frames.amax(axes))])

    def _scaling_of(self, channels: Sequence[str]) -> Scaling | None:
        """Scaling of these channels; those that were trained on as they are (such as the site) stay so."""
        if self.scaling is None:
            return None
        known = self.scaling.channels
        missing = tuple(channel for channel in channels if channel not in known)
        both = (self.scaling, Scaling.identity(missing))
        return Scaling(
            *(
                tuple(entry for scaling in both for entry in getattr(scaling, name))
                for name in ("channels", "kinds", "offset", "scale", "low", "high")
            )
        ).select(channels)

    def _to_forecast(
        self, values: np.ndarray, channels: Sequence[str], initial: Trajectory, seconds: float
    ) -> Forecast:
        fields = _regroup(values, channels, initial)
        units = {name: initial.units.get(name, u.dimensionless_unscaled) for name in fields}
        affected_is_forecast = AFFECTED in fields
        if affected_is_forecast:
            fields[AFFECTED] = np.clip(fields[AFFECTED], 0, 1)
        elif "density" in fields:
            change = np.abs(fields["density"] / initial.fields["density"][-1] - 1)
            fields[AFFECTED] = (change > AFFECTED_DENSITY_CHANGE).astype(np.float32)
            units[AFFECTED] = u.dimensionless_unscaled
        return Forecast(
            trajectory=Trajectory(
                fields=fields,
                units=units,
                times=initial.times[-1] + self._time_step(initial) * np.arange(1, len(values) + 1),
                box_size=initial.box_size,
                time_unit=initial.time_unit,
                length_unit=initial.length_unit,
                origin=initial.origin,
                boundary=initial.boundary,
                site=initial.site,
            ),
            initial=initial,
            seconds=seconds,
            model=self.name,
            device=str(self.device),
            affected_threshold=float((self.checkpoint.provenance or {}).get("affected_threshold", 0.5)),
            affected_is_forecast=affected_is_forecast,
        )


def load(
    name_or_path: str | Path = "sn32",
    device: str | None = "auto",
    precision: Precision = "auto",
    memory_format: MemoryFormat = "auto",
) -> Forecaster:
    """Load a model that comes with the package, or a checkpoint.

    Parameters
    ----------
    name_or_path
        `"sn32"`, or the path of a `.safetensors` checkpoint.
    device
        `"cpu"`, `"cuda"`, ...; `"auto"` takes a GPU where there is one.
    precision
        `"float32"`, `"bfloat16"`; `"auto"` is the first on a CPU, the second on GPUs that have it.
    memory_format
        `"contiguous"`, `"channels-last"`; `"auto"` is the second for bfloat16 on a CPU, else the first.

    Returns
    -------
    Forecaster
        Ready to forecast.

    Raises
    ------
    UserError
        If there is no such model, or the file is not a checkpoint.

    Examples
    --------
    >>> forecast = mim3d.load("sn32").forecast(trajectory, steps=19)  # doctest: +SKIP
    """
    name = str(name_or_path)
    bundled = {file.stem: file for file in bundled_models()}
    if name in bundled:
        return Forecaster(checkpoints.read(bundled[name]), device, name, precision, memory_format)
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(bundled) or "none in this installation"
        raise UserError(f"no model {name!r}: neither a checkpoint's path nor one that comes along ({known})")
    return Forecaster(checkpoints.read(path), device, path.stem, precision, memory_format)


def best_model(fields: Collection[str]) -> str:
    """Name the bundled model that makes most of what is known of the gas.

    Parameters
    ----------
    fields
        Names of the fields that are known.

    Returns
    -------
    str
        Of the models that need none but these, the one that takes most; where none can do with these, the
        one that needs least, which then says what it lacks.
    """
    needs = _needs_of_bundled()
    if not needs:
        raise UserError("this installation has no bundled model of gas; give a checkpoint with --model")
    usable = [name for name, needed in needs.items() if needed <= set(fields)]
    if usable:
        return max(usable, key=lambda name: len(needs[name]))
    return min(needs, key=lambda name: len(needs[name]))


def _needs_of_bundled() -> dict[str, set[str]]:
    """Name the fields that each bundled model of gas needs."""
    return {
        path.stem: {re.sub("_[xyz]$", "", name) for name in (*known.fields, *known.static)}
        - {*derived.DERIVED, *ASSUMED}
        for path, known in _read_bundled()
        if not known.dataset
    }


def _hint(name: str, fields: Collection[str]) -> str:
    """Name the bundled model that can do with these fields, to users of one that cannot."""
    needs = _needs_of_bundled()
    if name not in needs:
        return ""
    able = [other for other, needed in needs.items() if needed <= set(fields)]
    return f". The model {able[0]} can do with these" if able else ""


def dataset_model(dataset: str) -> str:
    """Name the bundled model that was trained on a data set of images.

    Parameters
    ----------
    dataset
        Its name, see `mim3d.data.datasets.DATASETS`.

    Raises
    ------
    UserError
        If there is no such data set, or no such model; then it says how to train one.
    """
    name = card(dataset).name
    for path, checkpoint in _read_bundled():
        if checkpoint.dataset.get("name") == name:
            return path.stem
    raise UserError(
        f"no bundled model was trained on {name}: train one with "
        f"`mim3d train {name}-small --output runs/{name}` and name it, runs/{name}/model.safetensors"
    )


def _completed(trajectory: Trajectory, constants: Mapping[str, u.Quantity]) -> Trajectory:
    """Add fields that are the same everywhere."""
    shape = (len(trajectory), *trajectory.grid)
    fields = {name: np.full(shape, value.value, np.float32) for name, value in constants.items()}
    units = {name: value.unit for name, value in constants.items()}
    return replace(
        trajectory, fields={**trajectory.fields, **fields}, units={**trajectory.units, **units}, twin=None
    )


def _read_bundled() -> Iterator[tuple[Path, Checkpoint]]:
    return ((path, checkpoints.read(path)) for path in bundled_models())


def example_path() -> Path:
    """Return the path of the bundled cloud: a direct simulation that no bundled model was trained on.

    Raises
    ------
    UserError
        If this installation has none.
    """
    path = MODELS / "example_cloud.h5"
    if not path.is_file():
        raise UserError("this installation has no example cloud; give a FILE")
    return path


def align(simulation: Trajectory, times: np.ndarray, unit: u.UnitBase = u.Myr) -> Trajectory | None:
    """Pick the frames of a simulation that belong to given times.

    Parameters
    ----------
    simulation
        Frames at any times.
    times
        Wanted times `(T,)`, in `unit`.
    unit
        Of `times`, and of the returned trajectory's.

    Returns
    -------
    Trajectory or None
        T frames, NaN where the simulation has none within a hundredth of a step; None if it has none at all.
    """
    have = simulation.times * unit_factor(simulation.time_unit, unit, "the time unit")
    spacing = np.min(np.diff(times)) if len(times) > 1 else times[0] - have[0]
    nearest = np.abs(have[None, :] - times[:, None]).argmin(axis=1)
    known = np.abs(have[nearest] - times) <= 0.01 * abs(spacing)
    if not known.any():
        return None

    def pick(source: Trajectory) -> Trajectory:
        fields: dict[str, np.ndarray] = {}
        for name, values in source.fields.items():
            picked = np.asarray(values)[nearest].astype(np.float64)
            picked[~known] = np.nan
            fields[name] = picked
        return Trajectory(
            fields=fields,
            units=source.units,
            times=times,
            box_size=source.box_size,
            time_unit=unit,
            length_unit=source.length_unit,
            origin=source.origin,
            boundary=source.boundary,
            parameters=source.parameters,
            site=source.site,
            twin=None if source.twin is None else pick(source.twin),
        )

    return pick(simulation)


class _Moments:
    """Mean and standard deviation over arrays that come one by one (Welford 1962, Technometrics 4, 419)."""

    def __init__(self) -> None:
        self._count = 0
        self.mean = np.zeros(())
        self._squares = np.zeros(())

    def add(self, values: np.ndarray) -> None:
        self._count += 1
        difference = values - self.mean
        self.mean = self.mean + difference / self._count
        self._squares = self._squares + difference * (values - self.mean)

    @property
    def deviation(self) -> np.ndarray:
        return np.sqrt(self._squares / (self._count - 1))


def _choose_turns(trajectory: Trajectory, members: int) -> list[symmetries.Symmetry]:
    """Choose symmetries that keep the box, the identity first, always the same ones.

    Raises
    ------
    UserError
        If there are not so many.
    """
    identity, *others = [
        turn
        for turn in symmetries.group(trajectory.num_axes)
        if turn.keeps(trajectory.grid) and turn.keeps(trajectory.box_size)
    ]
    if not 1 <= members <= 1 + len(others):
        raise UserError(
            f"members must be 1 to {1 + len(others)}, the symmetries of this box; found {members}"
        )
    order = np.random.default_rng(0).permutation(len(others))
    return [identity, *(others[k] for k in order[: members - 1])]


def _vectors(channels: Sequence[str], trajectory: Trajectory) -> list[list[int]]:
    """Places of the components of every vector among the channels."""
    axes = "xyz"[: trajectory.num_axes]
    bases = dict.fromkeys(_field_of(channel, trajectory) for channel in channels)
    return [
        [list(channels).index(f"{base}_{axis}") for axis in axes]
        for base in bases
        if base in trajectory.fields and trajectory.is_vector(base)
    ]


def _field_of(channel: str, trajectory: Trajectory) -> str:
    """Name of the field that holds a channel: `velocity` for `velocity_x`."""
    base, _, axis = channel.rpartition("_")
    is_component = axis in tuple("xyz"[: trajectory.num_axes]) and channel not in trajectory.fields
    return base if is_component and base else channel


def _channel(trajectory: Trajectory, channel: str) -> np.ndarray:
    """One channel `(T, *space)`."""
    name = _field_of(channel, trajectory)
    values = np.asarray(trajectory.fields[name])
    if not trajectory.is_vector(name):
        return values
    return values[..., "xyz".index(channel[-1])]


def _regroup(values: np.ndarray, channels: Sequence[str], like: Trajectory) -> dict[str, np.ndarray]:
    """Channels `(T, C, *space)` as fields, components of a vector together again, last."""
    fields: dict[str, np.ndarray] = {}
    parts: dict[str, list[np.ndarray]] = {}
    for k, channel in enumerate(channels):
        name = _field_of(channel, like)
        if name in like.fields and like.is_vector(name):
            parts.setdefault(name, []).append(values[:, k])
        else:
            fields[channel] = values[:, k]
    return fields | {name: np.stack(components, axis=-1) for name, components in parts.items()}


def _check_values(name: str, values: np.ndarray, unit: u.UnitBase, num_axes: int) -> None:
    """Refuse values that are not finite, and quantities that must be > 0 and are not."""
    must_be_positive = name in POSITIVE_FIELDS and unit != u.dimensionless_unscaled
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(values) if not must_be_positive else ~((values > 0) & np.isfinite(values))
    if not bad.any():
        return
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    voxel = first[1 : num_axes + 1]
    wish = "> 0" if must_be_positive else "finite"
    raise UserError(
        f"{name} must be {wish} everywhere, found {values[first]:.4g} at voxel {voxel} of frame {first[0]}"
        + (f" ({int(bad.sum())} such values)" if bad.sum() > 1 else "")
    )


def _times(numbers: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{number:.6g}" for number in numbers)


def _wait_for(device: torch.device) -> None:
    """Let a GPU finish what it was given, so that time is measured right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
