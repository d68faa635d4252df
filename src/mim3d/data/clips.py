"""Windows of simulated runs, streamed from disk, as tensors to train and validate on."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy import units as u
from torch.utils.data import Dataset, Sampler

from mim3d.data import derived as derived_channels
from mim3d.data import symmetries, well
from mim3d.data.derived import MARKERS, NEEDED_BY_MARKER
from mim3d.data.scaling import Kind, Scaling
from mim3d.data.splits import SPLITS, split_of
from mim3d.errors import UserError
from mim3d.fields import unit_factor
from mim3d.supernova.simulation import GAS_FIELDS

KINDS: dict[str, Kind] = {
    "density": "log",
    "pressure": "log",
    "temperature": "log",
    "velocity": "asinh",
    "affected": "none",
    "site": "none",
    "site_energy": "none",
    "drift": "linear",
}
"""The kind of scaling that suits a field; what is not here is `"linear"`."""

_WINDOWS = 1  # Tells the draws of windows from those of symmetries, which share the seed.
_MOST_OPEN_FILES = 64


@dataclass(frozen=True)
class Run:
    """One trajectory of one file."""

    path: Path
    trajectory: int
    num_frames: int

    @property
    def name(self) -> str:
        """Name of the run, the same wherever its folder lies."""
        return f"{self.path.name}#{self.trajectory}"


def find_files(source: str | Path | Iterable[str | Path]) -> list[Path]:
    """List the HDF5 files of a folder (`*.h5`, `*.hdf5`, sorted by name), or check the list given.

    Raises
    ------
    UserError
        If the folder is not there or holds none.
    """
    if not isinstance(source, str | Path):
        paths = [Path(path) for path in source]
        if not paths:
            raise UserError("no files were given")
        return paths
    folder = Path(source)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"no folder {folder}")
    # Hidden names are what a writer has not finished.
    paths = sorted(
        path for path in folder.iterdir() if path.suffix in (".h5", ".hdf5") and path.name[0] != "."
    )
    if not paths:
        raise UserError(f"the folder {folder} holds no *.h5 or *.hdf5 files")
    return paths


def find_runs(source: str | Path | Iterable[str | Path]) -> list[Run]:
    """List the runs of all files of `find_files`, in their order."""
    runs: list[Run] = []
    for path in find_files(source):
        with well.open(path) as file:
            runs += [Run(path, number, file.num_frames) for number in range(file.count)]
    return runs


class ClipDataset(Dataset[torch.Tensor]):
    """Clips of simulated runs, read from files in The Well's layout when they are asked for.

    An item is `(T, C, *space)` float32, scaled: the fields' channels, then the derived ones, then the static
    ones, then the guide to the first two kinds. Item `i` of epoch `e` is a function of `(seed, e, i)`
    alone, whatever was drawn before and by however many workers; ask for it as `dataset[e, i]` (`ClipSampler`
    does) or, after `set_epoch(e)`, as `dataset[i]`.

    Parameters
    ----------
    source
        A folder, a file, or a list of files.
    fields
        Fields to read; a vector becomes a channel per axis.
    derived
        Channels to derive, of `"affected"`, `"site"` and `"site_energy"`.
    static
        What is given and does not change: `"site"`, `"site_energy"`, `"drift"`, and fields that are not among
        `fields`, as they are in the last frame of the input.
    guided
        Add what the gas solver makes of the first frame of every run, on the voxels that it is stored on: a
        guide to every frame after it, see `derived.guide`. Clips are then whole runs from their first
        frame.
    input_length
        Frames of a clip that are input.
    num_frames
        Frames of a clip; all of a run by default.
    stride
        Frames from the start of a clip to the start of the next in a run. By default clips do not overlap: a
        run as long as a clip gives one clip, from its first frame.
    scaling
        Of the channels; none by default, see `fit_scaling`.
    split
        `"train"`, `"validation"`, `"test"`, or `None` for all runs. Whole runs are divided, see `split_of`.
    fractions, split_seed
        Shares of the three parts, and the seed of the division.
    seed
        Of the symmetries.
    augment
        Turn every clip by a random symmetry of its grid.
    window
        Voxels along each axis that a clip is cut to, around the site and up to a quarter of the spare voxels
        off it at random; the whole box by default. What is far from the explosion then costs no time.
    units
        Units for files that give none.

    Raises
    ------
    UserError
        If there are no files, they do not fit together, or lack a field, a twin or units.
    """

    def __init__(
        self,
        source: str | Path | Iterable[str | Path],
        fields: Sequence[str] = ("density",),
        derived: Sequence[str] = (),
        *,
        static: Sequence[str] = (),
        guided: bool = False,
        input_length: int = 1,
        num_frames: int | None = None,
        stride: int | None = None,
        scaling: Scaling | None = None,
        split: str | None = None,
        fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        seed: int = 0,
        augment: bool = False,
        window: int | None = None,
        units: well.Units | None = None,
    ) -> None:
        if split is not None and split not in SPLITS:
            raise UserError(
                f"split is {split!r}; it must be one of {', '.join(SPLITS)}, or nothing for all runs"
            )
        self.field_names = tuple(fields)
        self.derived = tuple(derived)
        self.static = tuple(static)
        self.guided = guided
        self.input_length = input_length
        self.seed = seed
        self.augment = augment
        self.window = window
        self.epoch = 0
        self._units_given = units
        self._files: OrderedDict[Path, well.WellFile] = OrderedDict()
        self._owner = os.getpid()
        self._given: dict[tuple[Run, int], np.ndarray] = {}
        self._guides: dict[int, torch.Tensor] = {}
        self._loaded: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        self._sites: dict[Run, tuple[float, ...]] = {}

        runs = self._find_runs(find_files(source))
        if split is not None:
            parts = split_of([run.name for run in runs], fractions, split_seed)
            runs = [run for run, part in zip(runs, parts, strict=True) if part == split]
            if not runs:
                raise UserError(f"no run is left for {split} with the shares {fractions}")
        self.runs: tuple[Run, ...] = tuple(runs)
        shortest = min(runs, key=lambda run: run.num_frames)
        self.num_frames = num_frames or shortest.num_frames
        if not 1 <= self.num_frames <= shortest.num_frames:
            raise UserError(
                f"clips of {self.num_frames} frames are wanted; {shortest.path} has {shortest.num_frames}"
            )
        if not 1 <= input_length <= self.num_frames:
            raise UserError(f"input_length must be 1 to {self.num_frames}, found {input_length}")
        step = stride or self.num_frames
        if step < 1:
            raise UserError(f"stride must be >= 1, found {step}")
        if guided and (input_length > 1 or self.num_frames == 1 or step < shortest.num_frames):
            raise UserError("guided clips start with the first frame of a run, and that alone is their input")
        if guided and self.time_step is None:
            raise UserError("guided clips need frames evenly apart in time")
        self._clips = [
            (run, start) for run in runs for start in range(0, run.num_frames - self.num_frames + 1, step)
        ]
        if window is not None and not 1 <= window <= min(self.grid):
            raise UserError(f"a window must have 1 to {min(self.grid)} voxels an axis, found {window}")
        self.scaling = scaling
        if scaling is not None and scaling.channels != self.channels:
            raise UserError(f"the scaling is of {scaling.channels}, the clips' channels are {self.channels}")
        sizes = tuple(zip(self.grid, self.box_size, strict=True))
        self.symmetries = tuple(
            symmetry
            for symmetry in symmetries.group(len(self.grid))
            if all(sizes[old] == sizes[new] for new, old in enumerate(symmetry.permutation))
        )

    def _find_runs(self, paths: Sequence[Path]) -> list[Run]:
        with well.open(paths[0], self._units_given) as file:
            first = self._describe(file)
            self.time_step = _even_step(file)
        runs: list[Run] = []
        for path in paths:
            with well.open(path, self._units_given) as file:
                for what, found in self._describe(file).items():
                    if found != first[what]:
                        raise UserError(
                            f"{path} does not fit the other files: its {what} is {found}, "
                            f"that of {paths[0]} is {first[what]}"
                        )
                runs += [Run(path, number, file.num_frames) for number in range(file.count)]
        self.grid: tuple[int, ...] = first["grid"]
        self.box_size: tuple[float, ...] = first["box size"]
        self.units: dict[str, u.UnitBase] = {
            name: first[f"unit of {name}"] for name in (*self._all_fields, "time", "length")
        }
        axes = "xyz"[: len(self.grid)]
        parts = {
            name: [f"{name}_{axis}" for axis in axes] if name in first["vector fields"] else [name]
            for name in (*self.field_names, *self.derived, *self.static)
        }
        self.channels: tuple[str, ...] = tuple(channel for names in parts.values() for channel in names)
        self.static_channels: tuple[str, ...] = tuple(
            channel for name in self.static for channel in parts[name]
        )
        self.vectors: tuple[tuple[int, ...], ...] = tuple(
            tuple(self.channels.index(channel) for channel in parts[name])
            for name in parts
            if name in first["vector fields"]
        )
        return runs

    @property
    def _all_fields(self) -> tuple[str, ...]:
        """Names of all fields that are read, static ones too."""
        return tuple(dict.fromkeys((*self.field_names, *self._static_fields)))

    @property
    def _static_fields(self) -> tuple[str, ...]:
        """Names of the fields that the static channels are or follow from."""
        needed = ((name,) if name not in MARKERS else NEEDED_BY_MARKER.get(name, ()) for name in self.static)
        return tuple(dict.fromkeys(field for fields in needed for field in fields))

    def _describe(self, file: well.WellFile) -> dict[str, Any]:
        """Tell what all files must have in common."""
        for name in self._all_fields:
            if name not in file.fields:
                raise UserError(f"no field {name!r} in {file.path}; there are: {', '.join(file.fields)}")
        if twice := set(self.static) & {*self.field_names, *self.derived}:
            raise UserError(f"the channel {min(twice)!r} cannot be both forecast and static")
        if "affected" in self.derived and not ("density" in file.fields and "density" in file.twin_fields):
            raise UserError(
                f"{file.path} holds no twin without explosion, which the channel 'affected' needs"
            )
        for name in self.derived:
            if name not in derived_channels.DERIVED:
                raise UserError(
                    f"no derived channel {name!r}; there are: {', '.join(derived_channels.DERIVED)}"
                )
        units = file.units_of([*self._all_fields, "time", "length"])
        return {
            "grid": file.grid,
            "box size": tuple(round(side, 9) for side in file.box()[0]),
            **{f"unit of {name}": unit for name, unit in units.items()},
            "vector fields": [
                name for name in self._all_fields if file.fields[name].name.startswith("/t1_fields")
            ],
        }

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._clips)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that `dataset[i]` draws its symmetries for.

        Workers that outlive an epoch do not hear of it; `ClipSampler` sends the epoch with every index
        instead.
        """
        self.epoch = epoch

    def symmetry(self, epoch: int, index: int) -> symmetries.Symmetry:
        """Return the symmetry by which clip `index` is turned in an epoch."""
        if not self.augment:
            return self.symmetries[0]
        generator = np.random.default_rng((self.seed, epoch, index))
        return self.symmetries[int(generator.integers(len(self.symmetries)))]

    def __getitem__(self, index: int | tuple[int, int]) -> torch.Tensor:
        """Return clip `index`, or `(epoch, index)`, as `(T, C, *space)`."""
        epoch, number = index if isinstance(index, tuple) else (self.epoch, index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"clip {number} of {len(self)}")
        number %= len(self)
        cut = (..., *self._cut(epoch, number))
        # Turning commutes with scaling: a vector's components are scaled alike, about zero.
        if self._loaded:
            moving, static = self._loaded[number]
            moving, static = moving[cut], None if static is None else static[cut]
        else:
            moving, static = self._scaled(number, cut)
        parts = [moving]
        if static is not None:
            parts.append(static.expand(len(moving), *static.shape))
        vectors = self.vectors
        if self.guided:
            guide = self._guide(number)[cut].to(moving.dtype)
            # The first frame is its own guide.
            parts.append(torch.cat((moving[:1], guide)))
            first = len(self.channels)
            moved = len(self.channels) - len(self.static_channels)
            vectors += tuple(
                tuple(first + channel for channel in vector) for vector in vectors if max(vector) < moved
            )
        clip = torch.cat(parts, 1) if len(parts) > 1 else moving
        symmetry = self.symmetry(epoch, number)
        if symmetry != self.symmetries[0]:
            clip = symmetries.apply(clip, symmetry, vectors)
        return clip.float()

    def load(self, watch: Callable[[range], Iterable[int]] = iter) -> None:
        """Read and scale all clips now, make their guides, and keep them in memory.

        They are kept in half precision, whose rounding (0.05 %) is far below what a forecast can tell: a clip
        of 20 frames of 32^3 takes 1.3 MB a channel. Scaling them later has no effect.

        Parameters
        ----------
        watch
            Goes through the numbers of the clips and may show how far it is.
        """
        if self._loaded:
            return
        kept: dict[str, torch.Tensor] = {}
        for number in watch(range(len(self))):
            moving, static = self._scaled(number)
            made = {"moving": moving}
            if static is not None:
                made["static"] = static
            if self.guided:
                made["guide"] = self._guide(number)
            for name, tensor in made.items():
                if name not in kept:
                    # One tensor for all clips: many would leave gaps, half as large as they are.
                    kept[name] = tensor.new_empty(len(self), *tensor.shape, dtype=torch.half)
                kept[name][number] = tensor
            rows = {name: whole[number] for name, whole in kept.items()}
            self._loaded.append((rows["moving"], rows.get("static")))
            if self.guided:
                self._guides[number] = rows["guide"]
            if self.window is not None:
                # Files that are opened among the steps of a training leave gaps in its memory.
                self._site(self._clips[number][0])
        self._close()

    def first(self, count: int) -> ClipDataset:
        """Return a data set of the first clips alone, none of them in memory."""
        part = copy.copy(self)
        part._clips, part._loaded, part._guides = self._clips[:count], [], {}
        return part

    def _scaled(self, number: int, cut: tuple[Any, ...] = (...,)) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Read clip `number` and scale it: what moves `(T, C, *space)`, and what is given `(C, *space)`."""
        run, start = self._clips[number]
        moving = self._scale(self._read(run, slice(start, start + self.num_frames))[cut], static=False)
        if not self.static:
            return moving, None
        return moving, self._scale(self._read_static(run, start)[cut], static=True)

    def _scale(self, values: np.ndarray, static: bool) -> torch.Tensor:
        """Scale the first channels, or those that are given."""
        tensor = torch.from_numpy(values)
        if self.scaling is None:
            return tensor
        moving = len(self.channels) - len(self.static_channels)
        channels = self.channels[moving:] if static else self.channels[:moving]
        return self.scaling.select(channels).forward(tensor, num_axes=len(self.grid))

    def _guide(self, number: int) -> torch.Tensor:
        """Return the scaled guide to all frames of clip `number` but the first, `(T - 1, C, *space)`.

        It takes a good part of a second: it is kept, in half precision.
        """
        if number not in self._guides:
            run, _ = self._clips[number]
            file = self._file(run.path)
            # No more than the network sees.
            seen = [name for name in GAS_FIELDS if name in self._all_fields]
            first = file.trajectory(run.trajectory, seen or GAS_FIELDS[:1], slice(0, 1))
            times = file.times(run.trajectory)[: self.num_frames]
            ahead = (times[1:] - times[0]) * unit_factor(file.unit("time"), u.Myr, "the time unit")
            made = derived_channels.guide(first, ahead.tolist(), (*self.field_names, *self.derived))
            self._guides[number] = self._scale(made, static=False).half()
        return self._guides[number]

    def _cut(self, epoch: int, number: int) -> tuple[slice, ...]:
        """Draw where clip `number` is cut in an epoch."""
        if self.window is None:
            return ()
        site = self._site(self._clips[number][0])
        generator = np.random.default_rng((self.seed, epoch, number, _WINDOWS))
        starts = []
        for position, voxels in zip(site, self.grid, strict=True):
            spare = voxels - self.window
            jitter = int(generator.integers(-(spare // 4), spare // 4 + 1)) if self.augment else 0
            starts.append(min(max(round(position - self.window / 2) + jitter, 0), spare))
        return tuple(slice(start, start + self.window) for start in starts)

    def _site(self, run: Run) -> tuple[float, ...]:
        """Return where the star of a run explodes, in voxels; it is kept."""
        if run not in self._sites:
            file = self._file(run.path)
            sides, origin = file.box(run.trajectory)
            self._sites[run] = tuple(
                (position - low) / side * voxels
                for position, low, side, voxels in zip(
                    file.site(run.trajectory), origin, sides, self.grid, strict=True
                )
            )
        return self._sites[run]

    def clip(self, number: int) -> np.ndarray:
        """Return clip `number` as the file has it: `(T, C, *space)`, not turned, not scaled."""
        run, start = self._clips[number]
        moving = self._read(run, slice(start, start + self.num_frames))
        if not self.static:
            return moving
        static = self._read_static(run, start)
        return np.concatenate((moving, np.broadcast_to(static, (len(moving), *static.shape))), axis=1)

    def run_of(self, number: int) -> Run:
        """Return the run that clip `number` is of."""
        return self._clips[number][0]

    def fit_scaling(self, kinds: dict[str, Kind] | None = None) -> Scaling:
        """Fit a scaling to all clips, one at a time.

        Parameters
        ----------
        kinds
            Kinds by field or derived channel, where `KINDS` does not suit.
        """
        chosen: dict[str, Kind] = {**KINDS, **(kinds or {})}
        other: Kind = "linear"
        of_channel: list[Kind] = []
        for channel in self.channels:
            name = channel if channel in chosen else channel.rsplit("_", 1)[0]
            of_channel.append(chosen.get(name, other))
        return Scaling.fit(
            (self.clip(number) for number in range(len(self))),
            self.channels,
            of_channel,
            num_axes=len(self.grid),
            vectors=self.vectors,
        )

    def _read(self, run: Run, frames: slice) -> np.ndarray:
        needed = list(self.field_names)
        if "affected" in self.derived and "density" not in needed:
            needed.append("density")
        trajectory = self._file(run.path).trajectory(run.trajectory, needed, frames)
        return derived_channels.channels(trajectory, self.field_names, self.derived)

    def _read_static(self, run: Run, start: int) -> np.ndarray:
        """Read what is given of the clip of a run that begins at frame `start`, `(C, *space)`.

        It is one frame, and the drift takes a tenth of a second: it is kept.
        """
        if (run, start) in self._given:
            return self._given[run, start]
        last = start + self.input_length - 1
        # Markers need the site alone, but gas without fields has no grid.
        needed = self._static_fields or self.field_names[:1]
        trajectory = self._file(run.path).trajectory(run.trajectory, needed, slice(last, last + 1))
        self._given[run, start] = derived_channels.static_channels(trajectory, self.static)
        return self._given[run, start]

    def _file(self, path: Path) -> well.WellFile:
        """Return an open file of this process: HDF5 handles do not survive a fork."""
        if self._owner != os.getpid():
            self._files = OrderedDict()
            self._owner = os.getpid()
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        if len(self._files) >= _MOST_OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        self._files[path] = well.open(path, self._units_given)
        return self._files[path]

    def _close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}


class ClipSampler(Sampler[tuple[int, int]]):
    """Draws `(epoch, index)` for a `ClipDataset`, in an order that follows from the seed and the epoch.

    Parameters
    ----------
    num_clips
        Length of the data set.
    shuffle
        Draw in random order.
    seed
        Of the order.
    rank, world_size
        This process and their number: process `r` gets every `world_size`-th of the same order, the same
        number each (the order starts again where it does not divide evenly).
    """

    def __init__(
        self, num_clips: int, *, shuffle: bool = True, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..{world_size - 1}, found {rank}")
        if num_clips < 1:
            raise ValueError("there are no clips to draw from")
        self.num_clips = num_clips
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to an epoch, leaving out this process's first `start` clips (for resuming within an epoch)."""
        self.epoch = epoch
        self.start = start

    def order(self, epoch: int) -> np.ndarray:
        """Return the order of an epoch over all processes, filled up so that all get the same number."""
        indices = np.arange(self.num_clips)
        if self.shuffle:
            indices = np.random.default_rng((self.seed, epoch)).permutation(self.num_clips)
        per_process = -(-self.num_clips // self.world_size)
        return np.resize(indices, per_process * self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        own = self.order(self.epoch)[self.rank :: self.world_size]
        for index in own[self.start :]:
            yield self.epoch, int(index)

    def __len__(self) -> int:
        """Return how many clips this process draws."""
        return -(-self.num_clips // self.world_size) - self.start


def _even_step(file: well.WellFile) -> float | None:
    """Return the time between frames [Myr], or nothing where it varies or is not a time."""
    times = file.times()
    unit = file.unit("time")
    if len(times) < 2 or not unit.is_equivalent(u.Myr):
        return None
    steps = np.diff(times)
    if np.ptp(steps) > 1e-4 * steps.mean():
        return None
    return float(((times[-1] - times[0]) / len(steps) * unit).to_value(u.Myr))
