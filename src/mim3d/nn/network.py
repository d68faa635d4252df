"""What every network is that forecasts frames, however it does it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from mim3d.errors import UserError
from mim3d.machine import release_freed_memory, resident_bytes


class ForecastNetwork(nn.Module, ABC):
    """A network that turns the frames of the past into those of the future.

    A subclass keeps every argument of its constructor as an attribute of the same name: `settings` reads
    them there.

    Parameters
    ----------
    in_channels
        Channels of a frame, C.
    num_axes
        Axes of space, 1 to 3.
    static_channels
        How many of the channels, the last ones, are given and not forecast (for instance a marker of the
        explosion's site): the network sees them, and they are carried through unchanged.
    residual
        Whether the network's output is the change since the last frame it has seen, rather than a frame.
    guided
        Whether there is a guide to every frame that is to be forecast: another forecast of the same channels,
        such as a coarse simulation's, which the network sees and corrects.

    Raises
    ------
    UserError
        If no channel is left to forecast, or space has not 1 to 3 axes.
    """

    def __init__(
        self,
        in_channels: int,
        num_axes: int,
        static_channels: int = 0,
        residual: bool = False,
        guided: bool = False,
    ) -> None:
        super().__init__()
        if num_axes not in (1, 2, 3):
            raise UserError(f"num_axes must be 1, 2 or 3, found {num_axes}")
        if not 0 <= static_channels < in_channels:
            raise UserError(
                f"static_channels must be at least 0 and less than in_channels = {in_channels}, "
                f"found {static_channels}"
            )
        self.in_channels = in_channels
        self.num_axes = num_axes
        self.static_channels = static_channels
        self.dynamic_channels = in_channels - static_channels
        self.residual = residual
        self.guided = guided

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""
        arguments = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}

    @abstractmethod
    def unroll(
        self,
        frames: Tensor,
        input_length: int,
        keep: Tensor | None = None,
        checkpoint: bool = False,
        guide: Tensor | None = None,
    ) -> Tensor:
        """Forecast frames of a sequence from the ones before them, to be compared with the truth.

        Parameters
        ----------
        frames
            `(B, T, C, *space)`.
        input_length
            Number of first frames that are always fed as they are, 1 to T - 1.
        keep
            `(B, T - input_length - 1)`: how much of the true frame is fed in place of the network's own
            forecast, at each later step (scheduled sampling: 1 or 0). Left out: never.
        checkpoint
            Of every part of the network (a cell, a stage) keep the inputs alone for the gradient, and compute
            the rest again: less memory, about a third more time.
        guide
            Of a guided network: the guide to the frames after `input_length`, `(B, N, dynamic_channels,
            *space)`, N at least `guide_length(T - input_length)`.

        Returns
        -------
        torch.Tensor
            Forecasts of the last N frames `(B, N, C, *space)`: at least those after `input_length`; of
            recurrent networks all but the first.

        Raises
        ------
        UserError
            If shapes do not fit the network, `input_length` is out of range, or a value is not finite.
        """

    @abstractmethod
    def forecast(
        self, frames: Tensor, steps: int, limits: Tensor | None = None, guide: Tensor | None = None
    ) -> Tensor:
        """Forecast the frames that follow.

        Parameters
        ----------
        frames
            The past `(B, T_in, C, *space)`.
        steps
            How many frames to forecast.
        limits
            Lowest and highest value of every channel `(2, C)`. Every forecast frame is kept within them
            before the next is made from it: what a network has never seen it may amplify, step after step.
        guide
            Of a guided network: the guide to the frames that follow, `(B, N, dynamic_channels, *space)`, N at
            least `guide_length(steps)`.

        Returns
        -------
        torch.Tensor
            `(B, steps, C, *space)`.

        Raises
        ------
        UserError
            If shapes do not fit the network, `steps` is not positive, or a value is not finite.
        """

    def guide_length(self, steps: int) -> int:
        """Return how many frames of a guide it takes to forecast so many."""
        return steps

    def forward(
        self,
        frames: Tensor,
        input_length: int,
        keep: Tensor | None = None,
        checkpoint: bool = False,
        guide: Tensor | None = None,
    ) -> Tensor:
        """Call `unroll`."""
        return self.unroll(frames, input_length, keep, checkpoint, guide)

    def _check_sequence(
        self, frames: Tensor, input_length: int, keep: Tensor | None, guide: Tensor | None
    ) -> None:
        """Check the arguments of `unroll`."""
        self._check_frames(frames)
        length = frames.shape[1]
        if not 1 <= input_length <= length - 1:
            raise UserError(
                f"input_length must be 1 to {length - 1} for sequences of {length} frames, "
                f"found {input_length}"
            )
        keep_shape = (len(frames), length - input_length - 1)
        if keep is not None and keep.shape != keep_shape:
            raise UserError(
                f"keep must have shape (B, T - input_length - 1) = {keep_shape}, found {tuple(keep.shape)}"
            )
        self._check_guide(guide, frames, length - input_length)

    def _check_past(self, frames: Tensor, steps: int, guide: Tensor | None) -> None:
        """Check the arguments of `forecast`."""
        self._check_frames(frames)
        if steps < 1:
            raise UserError(f"steps must be at least 1, found {steps}")
        self._check_guide(guide, frames, steps)

    def _check_guide(self, guide: Tensor | None, frames: Tensor, steps: int) -> None:
        if guide is None:
            if self.guided:
                raise UserError("the network is guided: a guide to the frames that it forecasts is missing")
            return
        if not self.guided:
            raise UserError("the network is not guided: leave the guide out")
        needed = self.guide_length(steps)
        wanted = (len(frames), needed, self.dynamic_channels, *frames.shape[3:])
        found = tuple(guide.shape)
        if (
            len(found) != len(wanted)
            or found[1] < needed
            or (found[0], *found[2:]) != (wanted[0], *wanted[2:])
        ):
            raise UserError(f"a guide to {steps} frames must have shape {wanted}, found {found}")

    def _within(self, frames: Tensor, limits: Tensor | None) -> Tensor:
        """Cut `(B, ..., C, *space)` to the limits of its channels `(2, C)`."""
        if limits is None:
            return frames
        low, high = limits.to(frames).view(2, -1, *(1,) * self.num_axes)
        return frames.clamp(low, high)

    def _check_frames(self, frames: Tensor) -> None:
        if frames.ndim != self.num_axes + 3 or frames.shape[2] != self.in_channels:
            raise UserError(
                f"frames must have shape (B, T, {self.in_channels}, *space) with {self.num_axes} axes of "
                f"space, found {tuple(frames.shape)}"
            )
        if frames.shape[1] < 1:
            raise UserError("frames must hold at least one frame, found none")
        # A look at the values cannot be part of a compiled graph.
        if torch.compiler.is_compiling():
            return
        # A sum is not finite where an entry is not, and needs no second tensor; only then look where.
        if not torch.isfinite(frames.sum()):
            bad = (~torch.isfinite(frames)).nonzero()
            if len(bad):
                sample, time, channel, *voxel = bad[0].tolist()
                value = frames[tuple(bad[0])].item()
                raise UserError(
                    f"frames must be finite everywhere, found {value} at sample {sample}, frame {time}, "
                    f"channel {channel}, voxel {tuple(voxel)}"
                )


class ManyFramesNetwork(ForecastNetwork):
    """A network whose every pass makes several frames: past and future frames are channels of one image."""

    def _check_sequence(
        self, frames: Tensor, input_length: int, keep: Tensor | None, guide: Tensor | None
    ) -> None:
        super()._check_sequence(frames, input_length, keep, guide)
        if keep is not None:
            raise UserError(
                "a network that forecasts several frames in a pass is fed no true frames on the way: set "
                "sampling.start to 0"
            )

    def _to_image(self, past: Tensor) -> Tensor:
        """Make the image of frames: the dynamic channels of all, then the static ones of the last."""
        static = past[:, -1, self.dynamic_channels :]
        return torch.cat((past[:, :, : self.dynamic_channels].flatten(1, 2), static), 1)

    def _to_frames(self, image: Tensor, past: Tensor, guide: Tensor | None = None) -> Tensor:
        """Make frames of the network's output for the dynamic channels of each."""
        last = past[:, -1:]
        frames = image.unflatten(1, (-1, self.dynamic_channels))
        # Each line is a pass over all frames, a tenth of a training step's time.
        if self.residual:
            frames = frames + (last[:, :, : self.dynamic_channels] if guide is None else guide)
        else:
            frames = frames.to(past.dtype)
        if not self.static_channels:
            return frames
        static = last[:, :, self.dynamic_channels :]
        return torch.cat((frames, static.expand(-1, frames.shape[1], *static.shape[2:])), 2)


def run(checkpoint: bool, part: Callable[..., Any], *inputs: Any) -> Any:
    """Call a part of a network; with `checkpoint` keep its inputs alone for the gradient."""
    return recompute(_with_room, part, *inputs, use_reentrant=False) if checkpoint else part(*inputs)


def _with_room(part: Callable[..., Any], *inputs: Any) -> Any:
    """Call a part, be it for the first time or again for the gradient."""
    if inputs[0].device.type == "cpu":
        _limit_freed_memory()
    return part(*inputs)


MOST_FREED_BYTES = 2**29
"""What a process may keep of freed memory where parts are computed again, on a CPU."""

_held_bytes = 0
"""What the process held after freed memory was last given back."""


def _limit_freed_memory() -> None:
    """Give freed memory back once the process has grown.

    Between tensors that live on, the GNU C library does not use again most of what was freed (it wants more
    for an aligned tensor than the one before took): of 3D-MIM six time steps would hold 3.7 GB, not 1.9.
    """
    global _held_bytes
    now = resident_bytes("VmRSS")
    if now is None or now <= _held_bytes + MOST_FREED_BYTES:
        return
    release_freed_memory()
    _held_bytes = resident_bytes("VmRSS") or 0


def check_grid(
    grid: Sequence[int] | None, num_axes: int, divisor: int, divisor_name: str
) -> tuple[int, ...] | None:
    """Check a grid against what it is divided by.

    Returns
    -------
    tuple of int or None
        The grid after division, None where none is given.

    Raises
    ------
    UserError
        If the grid has not `num_axes` positive entries, each divisible by `divisor`.
    """
    if divisor < 1:
        raise UserError(f"{divisor_name} must be at least 1, found {divisor}")
    if grid is None:
        return None
    grid = tuple(grid)
    if len(grid) != num_axes or min(grid) < 1:
        raise UserError(f"grid must have num_axes = {num_axes} positive entries, found {grid}")
    for axis, voxels in enumerate(grid):
        if voxels % divisor:
            raise UserError(
                f"grid {grid} is not divisible by {divisor_name} = {divisor}: axis {axis} has {voxels} voxels"
            )
    return tuple(voxels // divisor for voxels in grid)
