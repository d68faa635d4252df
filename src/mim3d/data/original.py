"""The sample files of the original programs: npz with `clips`, `dims` and `input_raw_data`.

`input_raw_data` is `(frames, C, *space)`: all frames of all sequences behind each other. `clips` is
`(2, sequences, 2)`: for the input (0) and the output (1) of every sequence, its first frame in
`input_raw_data` and its number of frames. `dims` is `(1, 1 + axes)`: channels and grid. Where there is a
second row, it is that of the output frames, which then lie in `output_raw_data`.

The two-dimensional files are those of Moving MNIST (arXiv 1811.07490), the three-dimensional those of
supernovae (arXiv 2302.00026). Values are in [0, 1], without units.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from astropy import units as u

from mim3d.data import npz
from mim3d.data.files import as_unit, existing, replacing
from mim3d.errors import UserError
from mim3d.fields import Trajectory


@dataclass(frozen=True)
class Samples(Sequence[np.ndarray]):
    """Sequences of one sample file; `samples[i]` is `(T, C, *space)` float32, input frames and output frames.

    Parameters
    ----------
    input_frames, output_frames
        `(frames, C, *space)`; in files that are not compressed they stay on disk.
    clips
        `(2, sequences, 2)` integers, see above.
    """

    input_frames: np.ndarray
    output_frames: np.ndarray
    clips: np.ndarray

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels and grid `(C, *space)`."""
        return self.input_frames.shape[1:]

    def __len__(self) -> int:
        """Return the number of sequences."""
        return self.clips.shape[1]

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        """Return one sequence `(T, C, *space)`, or a list of them."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        (start, length), (output_start, output_length) = self.clips[:, index].tolist()
        parts = self.input_frames[start : start + length], self.output_frames[output_start:][:output_length]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))

    def input_length(self, index: int = 0) -> int:
        """Return how many frames of a sequence are input."""
        return int(self.clips[0, index, 1])

    def trajectory(
        self,
        index: int = 0,
        *,
        fields: Sequence[str] | None = None,
        units: Mapping[str, u.UnitBase | str] | None = None,
        box_size: Sequence[float] | None = None,
        time_step: float = 1.0,
    ) -> Trajectory:
        """Return one sequence as a trajectory.

        Parameters
        ----------
        index
            Which sequence.
        fields
            A name for every channel; `channel_0`, `channel_1`, ... by default.
        units
            Units of the fields, of `"time"` and of `"length"`. Numbers, frames and pixels by default.
        box_size
            Side lengths of the box, in the unit of `"length"`; a pixel has side 1 by default.
        time_step
            Time between frames, in the unit of `"time"`.

        Raises
        ------
        UserError
            If names, units or box do not fit the sequence.
        """
        if not 0 <= index < len(self):
            raise UserError(f"there are {len(self)} sequences (0 to {len(self) - 1}), no {index}")
        if not time_step > 0:
            raise UserError(f"time_step must be > 0, found {time_step}")
        channels, *grid = self.dims
        names = [f"channel_{number}" for number in range(channels)] if fields is None else list(fields)
        if len(names) != channels:
            raise UserError(f"the samples have {channels} channels, {len(names)} fields were named: {names}")
        given = {name: as_unit(unit, name) for name, unit in (units or {}).items()}
        frames = self[index]
        return Trajectory(
            fields={name: frames[:, number] for number, name in enumerate(names)},
            units={name: given.get(name, u.dimensionless_unscaled) for name in names},
            times=np.arange(len(frames)) * time_step,
            box_size=tuple(map(float, grid)) if box_size is None else tuple(box_size),
            time_unit=given.get("time", u.dimensionless_unscaled),
            length_unit=given.get("length", u.pix),
        )


def read(path: str | Path) -> Samples:
    """Read a sample file.

    Parameters
    ----------
    path
        The npz file. It is never unpickled.

    Returns
    -------
    Samples
        The sequences. Frames of files that are not compressed are read from disk as they are asked for.

    Raises
    ------
    UserError
        If the file is not there, is damaged, or its arrays do not fit together.
    """
    path = existing(path)
    names = npz.names(path)
    missing = [name for name in ("clips", "dims", "input_raw_data") if name not in names]
    if missing:
        raise UserError(f"{path} is not a sample file: it holds no {', '.join(missing)}")
    clips, dims, input_frames = (npz.read_array(path, name) for name in ("clips", "dims", "input_raw_data"))
    output_frames = npz.read_array(path, "output_raw_data") if "output_raw_data" in names else input_frames
    _check(path, clips, dims, input_frames, output_frames)
    return Samples(input_frames, output_frames, clips.astype(np.int64))


def write(path: str | Path, sequences: Sequence[np.ndarray], input_length: int) -> None:
    """Write sequences to a sample file, one after the other, so that they need not all be in memory.

    Parameters
    ----------
    path
        The npz file; it appears once it is whole.
    sequences
        Each `(T, C, *space)`, all of the same shape.
    input_length
        How many frames of each are input; the rest is output.

    Raises
    ------
    UserError
        If there are none, they differ in shape, or are not longer than the input.
    """
    if len(sequences) == 0:
        raise UserError("no sequences to write")
    shape = np.shape(sequences[0])
    if not 3 <= len(shape) <= 5:
        raise UserError(f"a sequence is (T, C, *space) with 1 to 3 axes of space, found the shape {shape}")
    length = shape[0]
    if not 1 <= input_length < length:
        raise UserError(f"input_length must be from 1 to {length - 1}, found {input_length}")
    count = len(sequences)
    starts = length * np.arange(count)
    clips = np.stack(
        [
            np.stack([starts, np.full(count, input_length)], axis=-1),
            np.stack([starts + input_length, np.full(count, length - input_length)], axis=-1),
        ]
    ).astype(np.int32)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count * length, *shape[1:])}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in (("clips", clips), ("dims", np.array([shape[1:]], dtype=np.int32))):
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
        with archive.open("input_raw_data.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for number in range(count):
                frames = np.asarray(sequences[number])
                if frames.shape != shape:
                    raise UserError(f"sequence {number} has shape {frames.shape}, those before it {shape}")
                stream.write(np.ascontiguousarray(frames, dtype="<f4").tobytes())


def _check(path: Path, clips: np.ndarray, dims: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> None:
    """Check that clips and dims describe the frames."""
    if clips.ndim != 3 or clips.shape[0] != 2 or clips.shape[2] != 2 or clips.dtype.kind not in "iu":
        raise UserError(
            f"{path}: clips must be integers (2, sequences, 2), found {clips.dtype} {clips.shape}"
        )
    if clips.shape[1] == 0:
        raise UserError(f"{path} holds no sequences")
    for name, frames in (("input_raw_data", inputs), ("output_raw_data", outputs)):
        if not 3 <= frames.ndim <= 5 or frames.dtype.kind not in "fiu" or 0 in frames.shape:
            raise UserError(
                f"{path}: {name} must be numbers (frames, C, *space) with 1 to 3 axes of space, "
                f"found {frames.dtype} {frames.shape}"
            )
    if inputs.shape[1:] != outputs.shape[1:]:
        raise UserError(
            f"{path}: input frames are {inputs.shape[1:]}, output frames {outputs.shape[1:]}; "
            "a forecast needs them alike"
        )
    for row in np.atleast_2d(dims):
        # The three-dimensional files also come with three numbers, without the channels or the last axis.
        shape, known = inputs.shape[1:], tuple(int(size) for size in row)
        if known not in (shape, shape[1:], shape[:-1]):
            raise UserError(f"{path}: dims says {known}, the frames are {shape} (C, *space)")
    for name, part, frames in (("input", clips[0], inputs), ("output", clips[1], outputs)):
        starts, lengths = part.astype(np.int64).T
        bad = (starts < 0) | (lengths < 0) | (starts + lengths > len(frames))
        if bad.any():
            number = int(np.argmax(bad))
            raise UserError(
                f"{path}: the {name} of sequence {number} is {lengths[number]} frames from "
                f"{starts[number]}, but there are {len(frames)} frames"
            )
