"""What a training will take, in memory and time, before any of it runs."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from mim3d.data import ClipDataset
from mim3d.errors import UserError
from mim3d.machine import computes_bfloat16
from mim3d.nn import NETWORKS, ForecastNetwork, RecurrentForecaster
from mim3d.training.data_module import ForecastDataModule
from mim3d.training.module import ForecastModule
from mim3d.training.recipe import Recipe
from mim3d.training.run import build_network
from mim3d.training.trace import TracedConvolution, tracing

_VECTORS = ("velocity", "momentum", "magnetic_field")
"""Fields with a component along each axis, where no data say it."""

_TRACED_FRAMES = (3, 4)
"""Lengths of the clips that are traced. From the third step on each adds what the one before added."""

_MEASURING_SECONDS = 4.0
_COPY_BYTES = 2**26


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step needs on one device.

    Parameters
    ----------
    weights, gradients, optimizer, average
        Of the network; `average` is the moving average of the weights.
    peepholes
        Part of `weights`.
    states
        Recurrent states of a batch at one time; part of `activations` in training.
    activations
        What the forward pass keeps for the backward pass.
    step
        The most that is there at once in a step, all of these and temporary tensors counted.
    runs
        Runs that are kept in memory (`machine.cache`).
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    peepholes: int
    states: int
    activations: int
    step: int
    runs: int = 0

    @property
    def total(self) -> int:
        """What the process needs beside Python and its libraries."""
        return self.step + self.runs


@dataclass(frozen=True)
class Speed:
    """What this machine was measured to do, just now.

    Parameters
    ----------
    seconds
        Of the convolutions of one step.
    flop_per_second
        In them.
    bytes_per_second
        Of a copy, read and written together.
    """

    seconds: float
    flop_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class Plan:
    """Cost of a training.

    Parameters
    ----------
    num_weights
        Numbers in the network.
    clips_per_step
        That one device takes at a time.
    grid
        Voxels along each axis of a training clip.
    memory
        On one device.
    flop
        Operations of a step in convolutions and matrix products, on one device.
    moved_bytes
        That all else reads and writes in a step.
    speed
        None where the device is not here.
    steps, steps_per_epoch
        Of the training; of one pass over the clips, None without data.
    limit
        Bytes that there are; None where nobody knows.
    remedies
        Where memory does not suffice: by name of the switch, the total that it would leave.
    """

    num_weights: int
    clips_per_step: int
    grid: tuple[int, ...]
    memory: Memory
    flop: int
    moved_bytes: int
    speed: Speed | None
    steps: int
    steps_per_epoch: float | None
    limit: int | None
    remedies: dict[str, int]

    @property
    def seconds_per_step(self) -> float | None:
        """Time of the convolutions, measured one by one, and of moving all else at a copy's speed."""
        if self.speed is None:
            return None
        return self.speed.seconds + self.moved_bytes / self.speed.bytes_per_second

    @property
    def fits(self) -> bool | None:
        """Whether memory suffices; None where its size is not known."""
        return None if self.limit is None else self.memory.total <= self.limit


@dataclass(frozen=True)
class _Frames:
    """What the network sees: names of the channels, voxels, clips and bytes of the runs."""

    channels: tuple[str, ...]
    grid: tuple[int, ...]
    clips: int | None = None
    bytes: int = 0


def plan_training(
    recipe: Recipe,
    *,
    grid: Sequence[int] | None = None,
    device: str = "cpu",
    limit: int | None = None,
) -> Plan:
    """Work out what a training step of a recipe needs, without taking one.

    The step is traced on tensors without values, so every tensor that PyTorch would make is counted as
    long as it would live. Convolutions are then measured one by one on the device, where it is here.

    Parameters
    ----------
    recipe
        What would be trained. Channels and grid come from `data.folder`, or from `data.fields` and `grid`.
    grid
        Voxels along each axis, where there are no data yet.
    device
        `cpu` or `cuda`.
    limit
        Bytes of memory to plan for; by default what is free on the device, where it is here.

    Returns
    -------
    Plan
        Memory and time. Buffers inside a library's kernels, and Python with its libraries, come
        on top.

    Raises
    ------
    UserError
        If the recipe does not fit the data, or neither data nor grid are given.
    """
    kind = torch.device(device).type
    frames = _frames(recipe, grid)
    steps_per_epoch = None if frames.clips is None else frames.clips / recipe.data.batch_size
    is_half = _is_half(recipe, kind)
    cost = _trace(recipe, frames, is_half)
    is_here = kind == "cpu" or torch.cuda.is_available()
    limit = limit if limit is not None else (_free_bytes(device) if is_here else None)
    remedies: dict[str, int] = {}
    if limit is not None and cost.memory.total > limit:
        totals = {
            name: _trace(changed, frames, half).memory.total
            for name, changed, half in _switches(recipe, is_half)
        }
        # Half precision keeps copies of weights and inputs: a small network may need more with it.
        remedies = {name: total for name, total in totals.items() if total < cost.memory.total}
    return Plan(
        num_weights=cost.num_weights,
        clips_per_step=_clips_per_step(recipe),
        grid=_training_grid(recipe, frames),
        memory=cost.memory,
        flop=cost.flop,
        moved_bytes=cost.moved_bytes,
        speed=_measure(cost.convolutions, device) if is_here else None,
        steps=recipe.training.steps,
        steps_per_epoch=steps_per_epoch,
        limit=limit,
        remedies=remedies,
    )


@dataclass(frozen=True)
class _Cost:
    num_weights: int
    memory: Memory
    flop: int
    moved_bytes: int
    convolutions: dict[TracedConvolution, int]


def _frames(recipe: Recipe, grid: Sequence[int] | None) -> _Frames:
    if recipe.data.dataset:
        raise UserError(
            f"a plan is for runs on a grid, not for a data set of images such as {recipe.data.dataset!r}"
        )
    if recipe.data.folder:
        clips = ForecastDataModule(replace(recipe, machine=replace(recipe.machine, cache=False))).training
        assert isinstance(clips, ClipDataset)
        channels = clips.channels[: len(clips.channels) - len(clips.static_channels)]
        frames = sum(run.num_frames for run in clips.runs)
        size = 4 * frames * len(clips.channels) * prod(clips.grid) if recipe.machine.cache else 0
        return _Frames(tuple(channels), tuple(clips.grid), len(clips), size)
    if grid is None:
        raise UserError("a plan needs --data DIR, or --grid with the voxels along each axis")
    if not 1 <= len(grid) <= 3 or min(grid) < 1:
        raise UserError(f"grid needs 1 to 3 positive numbers, found {tuple(grid)}")
    return _Frames(_channels(recipe.data.fields, len(grid)), tuple(grid))


def _channels(names: Sequence[str], num_axes: int) -> tuple[str, ...]:
    """Name the channels of fields, one of a scalar and one an axis of a vector."""
    return tuple(
        channel
        for name in names
        for channel in ([f"{name}_{axis}" for axis in "xyz"[:num_axes]] if name in _VECTORS else [name])
    )


def _training_grid(recipe: Recipe, frames: _Frames) -> tuple[int, ...]:
    window = recipe.data.window
    return (window,) * len(frames.grid) if window else frames.grid


def _clips_per_step(recipe: Recipe) -> int:
    processes = max(1, recipe.machine.devices) * recipe.machine.nodes
    return max(1, recipe.data.batch_size // recipe.training.accumulate // processes)


def _is_half(recipe: Recipe, device: str) -> bool:
    """Whether convolutions run in 16 bits, by the same rule as the training's."""
    if recipe.machine.precision == "auto":
        # GPUs of today have it; one that is not here cannot be asked.
        is_away = device == "cuda" and not torch.cuda.is_available()
        return is_away or computes_bfloat16(torch.device(device))
    return "16" in recipe.machine.precision


def _switches(recipe: Recipe, is_half: bool) -> list[tuple[str, Recipe, bool]]:
    """List what needs less memory and changes little, one by one and then together."""
    training, found = recipe.training, []
    together, half = recipe, is_half
    if not training.recompute:
        together = replace(together, training=replace(training, recompute=True))
        found.append(("training.recompute true", together, is_half))
    if not is_half:
        half = True
        found.append(("machine.precision bf16-mixed", recipe, True))
    if _clips_per_step(recipe) > 1:
        parts = training.accumulate * _clips_per_step(recipe)
        changed = replace(recipe, training=replace(training, accumulate=parts))
        together = replace(together, training=replace(together.training, accumulate=parts))
        found.append((f"training.accumulate {parts}", changed, is_half))
    arguments = inspect.signature(NETWORKS[recipe.network.name]).parameters
    default = arguments["peephole"].default if "peephole" in arguments else None
    if recipe.network.settings.get("peephole", default) == "voxel":
        settings = {**recipe.network.settings, "peephole": "channel"}
        found.append(
            (
                "network.settings.peephole channel",
                replace(recipe, network=replace(recipe.network, settings=settings)),
                is_half,
            )
        )
        together = replace(together, network=replace(recipe.network, settings=settings))
    if len(found) > 1:
        found.append(("all of these", together, half))
    return found


def _trace(recipe: Recipe, frames: _Frames, is_half: bool) -> _Cost:
    """Trace a clip; of what is recomputed, count one time step at a time.

    Tensors without values outlive the backward pass of the time step that they are recomputed for; real ones
    do not. So the peak is put together from what is kept between time steps and from one step that keeps all.
    """
    is_recurrent = issubclass(NETWORKS.get(recipe.network.name, RecurrentForecaster), RecurrentForecaster)
    cost = _trace_frames(recipe, frames, is_half, is_recurrent)
    if not (is_recurrent and recipe.training.recompute):
        return cost
    whole = replace(recipe, training=replace(recipe.training, recompute=False))
    short, long = (
        _trace_clip(
            replace(whole, data=replace(recipe.data, frames=count, input_length=1)), frames, is_half
        ).memory
        for count in _TRACED_FRAMES
    )
    beside = short.step - short.activations
    step = cost.memory.activations + (long.step - short.step) // (_TRACED_FRAMES[1] - _TRACED_FRAMES[0])
    return replace(cost, memory=replace(cost.memory, step=step + beside))


def _trace_frames(recipe: Recipe, frames: _Frames, is_half: bool, is_recurrent: bool) -> _Cost:
    """Trace two short clips and continue the straight line through them to the recipe's number of frames."""
    # All frames of a network that does not go from frame to frame are one piece.
    whole = not is_recurrent or recipe.data.frames <= _TRACED_FRAMES[1]
    if whole:
        cost = _trace_clip(recipe, frames, is_half)
        return replace(cost, memory=replace(cost.memory, runs=frames.bytes))
    short, long = (
        _trace_clip(
            replace(recipe, data=replace(recipe.data, frames=length, input_length=1)), frames, is_half
        )
        for length in _TRACED_FRAMES
    )
    more = recipe.data.frames - _TRACED_FRAMES[1]

    def onward(before: int, after: int) -> int:
        return after + more * (after - before)

    memory = Memory(
        **{
            item.name: onward(getattr(short.memory, item.name), getattr(long.memory, item.name))
            for item in fields(Memory)
        }
    )
    convolutions = {
        conv: onward(short.convolutions.get(conv, 0), count) for conv, count in long.convolutions.items()
    }
    return _Cost(
        long.num_weights,
        replace(memory, runs=frames.bytes),
        onward(short.flop, long.flop),
        onward(short.moved_bytes, long.moved_bytes),
        convolutions,
    )


def _trace_clip(recipe: Recipe, frames: _Frames, is_half: bool) -> _Cost:
    # Feeding true frames draws random numbers, which need a trainer; it keeps next to nothing. The
    # moving average is a second set of weights, nothing more.
    traced = replace(
        recipe,
        sampling=replace(recipe.sampling, start=0.0),
        training=replace(recipe.training, average=0.0),
    )
    static = _channels(recipe.data.static, len(frames.grid))
    space = _training_grid(recipe, frames)
    shape = (_clips_per_step(recipe), recipe.data.frames, len(frames.channels) + len(static), *space)
    with tracing() as trace:
        network = build_network(recipe, shape[2], frames.grid, len(static))
        weights = trace.live_bytes
        module = ForecastModule(network, frames.channels, traced, static=static)
        module.log = _log_nothing  # type: ignore[method-assign]
        made = trace.live_bytes
        batch = torch.empty(shape)
        before = trace.live_bytes
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            loss = module.training_step(batch, 0)
        activations = trace.live_bytes - before
        loss.backward()
        step = trace.peak_bytes
        del loss, batch
        gradients = trace.live_bytes - made
        optimizer = module.configure_optimizers()["optimizer"]
        optimizer.step()
        moments = trace.live_bytes - made - gradients
        # The peak of the pass above comes again, with the optimiser's moments beside it.
        step = max(step + moments, trace.peak_bytes)
        flop, moved, convolutions = trace.flop, trace.moved_bytes, dict(trace.convolutions)
        states = _state_bytes(network, torch.empty(shape[0], *shape[2:]))
    average = weights if recipe.training.average else 0
    named = dict(network.named_parameters())
    return _Cost(
        sum(parameter.numel() for parameter in named.values()),
        Memory(
            weights=weights,
            gradients=gradients,
            optimizer=moments,
            average=average,
            peepholes=sum(p.nbytes for name, p in named.items() if "peephole" in name),
            states=states,
            activations=activations,
            step=step + average,
        ),
        flop,
        moved,
        convolutions,
    )


def _log_nothing(*arguments: Any, **options: Any) -> None:
    """Stand in for Lightning's log, which needs a trainer."""


def _state_bytes(network: ForecastNetwork, frame: Tensor) -> int:
    if not isinstance(network, RecurrentForecaster):
        return 0
    with torch.no_grad():
        # After two steps: some states are alike at first.
        state = network.step(*network.step(frame))[1]
    storages = {
        leaf.untyped_storage()._cdata: leaf.untyped_storage().nbytes()
        for leaf in tree_leaves(state)
        if isinstance(leaf, Tensor)
    }
    return sum(storages.values())


def _free_bytes(device: str) -> int | None:
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    entries = dict(line.split(":") for line in info.read_text().splitlines())
    return int(entries["MemAvailable"].split()[0]) * 1024


def _measure(convolutions: dict[TracedConvolution, int], device: str) -> Speed:
    """Time the convolutions of a step, the costliest first; what takes too long is reckoned by operations."""
    began = time.perf_counter()
    seconds = measured_flop = 0.0
    total = sum(conv.flop * count for conv, count in convolutions.items())
    for conv, count in sorted(convolutions.items(), key=lambda item: -item[0].flop * item[1]):
        if measured_flop and time.perf_counter() - began > _MEASURING_SECONDS:
            break
        seconds += count * _seconds(_runner(conv, device), device)
        measured_flop += conv.flop * count
    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copying = _seconds(lambda: target.copy_(source), device)
    # A network without convolutions has nothing to measure.
    speed = measured_flop / seconds if seconds else float("inf")
    return Speed(total / speed, speed, 2 * _COPY_BYTES / copying)


def _runner(conv: TracedConvolution, device: str) -> Callable[[], object]:
    x = torch.randn(conv.x_shape, device=device, dtype=conv.dtype)
    weight = torch.randn(conv.weight_shape, device=device, dtype=conv.dtype)
    axes = len(conv.stride)
    if conv.wants is None:
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
        return lambda: convolve(x, weight, None, conv.stride, conv.padding)
    shape = [
        (size + 2 * padding - kernel) // stride + 1
        for size, kernel, stride, padding in zip(
            conv.x_shape[2:], conv.weight_shape[2:], conv.stride, conv.padding, strict=True
        )
    ]
    gradient = torch.randn(conv.x_shape[0], conv.weight_shape[0], *shape, device=device, dtype=conv.dtype)
    wants = (*conv.wants, False)
    rest = (None, conv.stride, conv.padding, (1,) * axes, False, (0,) * axes, 1, wants)
    return lambda: torch.ops.aten.convolution_backward(gradient, x, weight, *rest)


def _seconds(function: Callable[[], object], device: str) -> float:
    """Time of the second call: the first may choose an algorithm."""
    took = 0.0
    with torch.no_grad():
        for _ in range(2):
            began = time.perf_counter()
            function()
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            took = time.perf_counter() - began
    return took
