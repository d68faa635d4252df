"""How fast a training goes here, and what its process holds: a real piece of a step, taken and measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from mim3d.data.clips import ClipDataset
from mim3d.machine import describe_machine, release_freed_memory, resident_bytes, threads
from mim3d.training.cost import Cost, can_be_cut, clip_grid, clips_at_a_time, log_nothing, shortened
from mim3d.training.layout import FrameLayout
from mim3d.training.module import ForecastModule
from mim3d.training.recipe import Recipe
from mim3d.training.run import build_network

_SECONDS = 8.0
"""How long a piece may be measured, by the clock; its shortest forms are measured however long they take."""

_MOST_CALLS = 5
_FEWEST_FRAMES = 3


@dataclass(frozen=True)
class Pace:
    """What a piece of a training step took: the first frames of a clip, forward and backward.

    Parameters
    ----------
    machine
        Device, threads and precision, in words.
    clips, frames
        Of the piece.
    calls
        How often it was taken; the quickest counts.
    seconds
        Of the piece. On a CPU those that this process computed in: time in which other programs had the cores
        does not count.
    clock_seconds
        The same by the clock.
    update_seconds
        Of the optimiser's update, with clipped gradients and moving average.
    reading_seconds
        Of the clips of a step from the data; 0 where other processes read them, or they are not here.
    share
        Of the operations of all passes of a step that are in the piece.
    base_bytes
        What the process held before: Python and its libraries. 0 on a GPU.
    loaded_bytes, factor
        What it held more at most, with tensors of n bytes: `loaded_bytes + factor * n`. The C library, or
        on a GPU PyTorch, does not use again all that was given back.
    """

    machine: str
    clips: int
    frames: int
    calls: int
    seconds: float
    clock_seconds: float
    update_seconds: float
    reading_seconds: float
    share: float
    base_bytes: int
    loaded_bytes: int
    factor: float

    @property
    def step_seconds(self) -> float:
        """Time of a whole step."""
        return self.seconds / self.share + self.update_seconds + self.reading_seconds

    def process_bytes(self, tensors: int, most_freed: int | None = None) -> int:
        """Return what a process holds with tensors of so many bytes, and so much of freed memory at most."""
        held = self.loaded_bytes + round(self.factor * tensors)
        if most_freed is not None:
            held = min(held, tensors + max(self.loaded_bytes, most_freed))
        return self.base_bytes + held


def measure_pace(
    recipe: Recipe, layout: FrameLayout, cost: Cost, device: torch.device, is_half: bool, room: int | None
) -> Pace | None:
    """Take a real piece of a step: as many frames as can be measured within seconds.

    It is of all clips that the device takes at a time, or of one where there is too little memory.

    Parameters
    ----------
    recipe, layout
        What would be trained on what.
    cost
        Of a step.
    device
        Where.
    is_half
        Whether convolutions run in 16 bits.
    room
        Bytes that there are.

    Returns
    -------
    Pace or None
        None where not even one clip of the fewest frames fits.
    """
    own, all_frames = clips_at_a_time(recipe), recipe.data.frames
    fewest = min(_FEWEST_FRAMES, all_frames) if can_be_cut(recipe) else all_frames
    needed = _tensor_bytes(cost, all_frames - fewest)
    clips = own if _fits(needed, room) else 1
    if not _fits(needed * clips / own, room):
        return None
    with threads(recipe.machine.threads), _random_state(device):
        meter = _Meter(device)
        piece = _Piece(recipe, layout, device, is_half, clips, fewest)
        once = meter.seconds(lambda: piece.pass_through(fewest))[1]
        # The optimiser's moments come with the first update.
        held = {fewest: meter.held_bytes(before=cost.memory.optimizer)}
        piece.update()
        if once < _SECONDS / 4:
            # The first call chose algorithms.
            once = meter.seconds(lambda: piece.pass_through(fewest))[1]
        # What is kept of freed memory grows with frames: it takes two lengths to be seen.
        frames = min(max(fewest + 2, int(fewest * _SECONDS / (3 * once))), all_frames)
        while frames > fewest and not _fits(_tensor_bytes(cost, all_frames - frames) * clips // own, room):
            frames = max(fewest, frames // 2)
        calls = max(2, min(_MOST_CALLS, int(_SECONDS * fewest / (once * frames))))
        taken, updates = [], []
        for _ in range(calls):
            taken.append(meter.seconds(lambda: piece.pass_through(frames)))
            updates.append(meter.seconds(piece.update))
        held[frames] = meter.held_bytes()
        reading = _reading_seconds(recipe, layout, meter)
        machine = describe_machine(device, "bfloat16" if is_half else "float32")
    tensors = {count: _tensor_bytes(cost, all_frames - count) * clips // own for count in held}
    library, factor = _line(tensors, held, whole=frames == all_frames and clips == own)
    seconds, clock = min(taken)
    part = (cost.flop - (all_frames - frames) * cost.frame_flop) / cost.flop if cost.flop else 1.0
    return Pace(
        machine=machine,
        clips=clips,
        frames=frames,
        calls=len(taken),
        seconds=seconds,
        clock_seconds=clock,
        update_seconds=min(updates)[0],
        reading_seconds=reading,
        share=part * clips / own / recipe.training.accumulate,
        base_bytes=meter.base_bytes,
        loaded_bytes=library,
        factor=factor,
    )


def _tensor_bytes(cost: Cost, fewer: int) -> int:
    return cost.memory.step - fewer * cost.frame_bytes


def _fits(needed: float, room: int | None) -> bool:
    """Tell whether twice what tensors need is free."""
    return room is None or 2 * needed <= room


def _line(tensors: dict[int, int], held: dict[int, int | None], whole: bool) -> tuple[int, float]:
    """Draw the line from what tensors need to what the process held, through one or two pieces."""
    points = [(tensors[count], bytes_) for count, bytes_ in held.items() if bytes_ is not None]
    if not points:
        return 0, 1.0
    (short, held_short), (long, held_long) = points[0], points[-1]
    if long > 1.5 * short:
        # How full the C library packs its memory varies, most of all at first: a short piece that was packed
        # well would make the line steep, and what is held without tensors less than nothing.
        slope = min((held_long - held_short) / (long - short), held_long / long)
        factor = max(1.0, slope)
    else:
        # One piece does not tell what grows with tensors: all does, or of a whole step nothing.
        factor = 1.0 if whole else max(1.0, held_long / long)
    return max(0, held_long - round(factor * long)), factor


class _Piece:
    """The first frames of some clips, and the network that is trained on them."""

    def __init__(
        self,
        recipe: Recipe,
        layout: FrameLayout,
        device: torch.device,
        is_half: bool,
        clips: int,
        fewest: int,
    ) -> None:
        recipe = shortened(recipe, fewest)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=is_half)
        network = build_network(recipe, layout.in_channels, layout.grid, len(layout.static))
        self.module = ForecastModule(network, layout.channels, recipe, static=layout.static).to(device)
        self.module.log = log_nothing  # type: ignore[method-assign]
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.clip = recipe.optimizer.clip
        self.shape = (clips, layout.clip_channels, *clip_grid(recipe, layout))
        self.device = device

    def pass_through(self, frames: int) -> None:
        """Go forward and backward through some frames."""
        clips, *rest = self.shape
        batch = torch.rand(clips, frames, *rest, device=self.device)
        self.optimizer.zero_grad()
        with self.autocast:
            loss = self.module.training_step(batch, 0)
        loss.backward()

    def update(self) -> None:
        """Move the weights and their average."""
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.module.network.parameters(), self.clip)
        self.optimizer.step()
        if self.module.average is not None:
            self.module.average.update_parameters(self.module.network)


class _Meter:
    """Clock and memory of this process, or of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.base_bytes = 0
            self._held_before = torch.cuda.memory_reserved(device)
            return
        # What was given back before would otherwise be used, and not be seen to grow.
        release_freed_memory()
        self.base_bytes = resident_bytes("VmRSS") or 0
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._held_before = self.base_bytes

    def held_bytes(self, before: int = 0) -> int | None:
        """Return the most that was held beyond what was there at first, `before` added; None if unknown."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device) - self._held_before + before
        peak = resident_bytes("VmHWM")
        return None if peak is None else peak - self._held_before + before

    def seconds(self, function: Callable[[], object]) -> tuple[float, float]:
        """Return the time of a call: of computing, and by the clock.

        On a CPU the thread that calls does its share of everything, so the time that it computes is what the
        call would take by the clock if no other program wanted the cores.
        """
        is_cuda = self.device.type == "cuda"
        if is_cuda:
            torch.cuda.synchronize(self.device)
        began, computed = time.perf_counter(), time.thread_time()
        function()
        if is_cuda:
            torch.cuda.synchronize(self.device)
        computed = time.thread_time() - computed
        clock = time.perf_counter() - began
        return (clock if is_cuda else computed), clock


def _reading_seconds(recipe: Recipe, layout: FrameLayout, meter: _Meter) -> float:
    """Time the clips of a step, where the training itself reads them and they are here."""
    if layout.frames is None or recipe.machine.workers:
        return 0.0
    frames, count = layout.frames, clips_at_a_time(recipe) * recipe.training.accumulate
    if recipe.machine.cache and isinstance(frames, ClipDataset):
        # Clips in memory are cut and turned all the same.
        frames = frames.first(count)
        frames.load()
    numbers = [number % len(frames) for number in range(count)]
    return min(meter.seconds(lambda: [frames[0, number] for number in numbers])[0] for _ in range(2))


@contextmanager
def _random_state(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
