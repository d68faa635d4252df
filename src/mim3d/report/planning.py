"""A training's plan in a few lines."""

from __future__ import annotations

from collections.abc import Iterator

from mim3d.training.plan import Plan


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """Say what a training takes: what, and how much."""
    return [*_network(plan), *_memory(plan), *_time(plan)]


def _network(plan: Plan) -> Iterator[tuple[str, str]]:
    clips = f"{plan.clips_per_step} clip" + ("s" if plan.clips_per_step > 1 else "")
    yield "at a time", f"{clips} of {' x '.join(map(str, plan.grid))} voxels"
    yield "network", f"{plan.num_weights / 1e6:.2f} million weights"


def _memory(plan: Plan) -> Iterator[tuple[str, str]]:
    memory = plan.memory
    yield "weights", _size(memory.weights)
    if memory.peepholes:
        yield "  of them peepholes", _size(memory.peepholes)
    yield "gradients", _size(memory.gradients)
    yield "optimiser", _size(memory.optimizer)
    if memory.average:
        yield "moving average", _size(memory.average)
    yield "activations", f"{_size(memory.activations)}, kept for the backward pass"
    if memory.states:
        yield "  recurrent state", f"{_size(memory.states)} a time step"
    if memory.runs:
        yield "runs", f"{_size(memory.runs)}, kept in memory"
    yield "memory in all", f"{_size(memory.total)} at most, beside Python and its libraries"
    if plan.limit is None:
        return
    yield "there is", _size(plan.limit) + ("" if plan.fits else ": not enough")
    if plan.fits:
        return
    for name, total in plan.remedies.items():
        yield f"  with {name}", _size(total) + (" would fit" if total <= plan.limit else "")
    if not any(total <= plan.limit for total in plan.remedies.values()):
        yield "  else", "a smaller network or grid, a window, shorter clips or a larger machine"


def _time(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "operations", f"{plan.flop / 1e12:.3g} TFLOP a step, in convolutions"
    yield "other traffic", f"{plan.moved_bytes / 1e9:.3g} GB a step"
    seconds, speed = plan.seconds_per_step, plan.speed
    if seconds is None or speed is None:
        yield "time", "not known: the device is not here to be measured"
        return
    yield (
        "measured now",
        f"{speed.flop_per_second / 1e9:.3g} GFLOP/s in these convolutions, "
        f"{speed.bytes_per_second / 1e9:.3g} GB/s in a copy",
    )
    yield "a step", _duration(seconds)
    if plan.steps_per_epoch is not None:
        passes = f"{plan.steps_per_epoch:.3g} steps"
        yield "an epoch", f"{_duration(seconds * plan.steps_per_epoch)} ({passes})"
    yield "the training", f"{_duration(seconds * plan.steps)} ({plan.steps} steps, without validation)"


def _size(count: int) -> str:
    """Bytes in the largest unit that leaves a number above one."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _duration(seconds: float) -> str:
    for unit, scale in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"
