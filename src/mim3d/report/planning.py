"""A training's plan in a few lines."""

from __future__ import annotations

from collections.abc import Iterator

from mim3d.training.plan import Plan


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """Say what a training takes: what, and how much."""
    return [*_network(plan), *_memory(plan), *_time(plan)]


def _network(plan: Plan) -> Iterator[tuple[str, str]]:
    yield (
        "at a time",
        f"{_count(plan.clips, 'clip')} of {plan.frames} frames, {' x '.join(map(str, plan.grid))} voxels",
    )
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
    yield "all tensors", f"{_size(memory.total)} at most at a time"
    yield "memory in all", _size(plan.process_bytes) + _beside_tensors(plan)
    if plan.limit is None:
        return
    yield "there is", _size(plan.limit) + ("" if plan.fits else ": not enough")
    if plan.fits:
        return
    for name, total in plan.remedies.items():
        yield f"  with {name}", _size(total) + (" would fit" if total <= plan.limit else "")
    if not any(total <= plan.limit for total in plan.remedies.values()):
        yield "  else", "a smaller network or grid, a window, shorter clips or a larger machine"


def _beside_tensors(plan: Plan) -> str:
    """Say what of the memory is not the tensors'."""
    pace = plan.pace
    if pace is None:
        return ", and what Python and its libraries need"
    beside = pace.base_bytes + pace.loaded_bytes
    libraries = f"{_size(beside)} for Python and its libraries, " if beside else ""
    factor = (plan.process_bytes - plan.memory.runs - beside) / plan.memory.step
    return f": {libraries}{factor:.2f} x what the tensors of a step need (measured, freed memory is kept)"


def _time(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "operations", f"{plan.flop / 1e12:.3g} TFLOP a step, in convolutions and matrix products"
    yield "other traffic", f"{plan.moved_bytes / 1e9:.3g} GB a step"
    pace, seconds = plan.pace, plan.seconds_per_step
    if pace is None or seconds is None:
        yield "time", "not known: the device is not here to be measured, or too little of its memory is free"
        return
    yield (
        "measured",
        f"forward and backward, {_count(pace.clips, 'clip')} of {pace.frames} frames: "
        f"{_duration(pace.seconds)} on {pace.machine}, the best of {pace.calls}",
    )
    yield "  the update", _duration(pace.update_seconds)
    if pace.reading_seconds:
        yield "  reading", f"{_duration(pace.reading_seconds)} for the clips of a step"
    if pace.clock_seconds > 1.2 * pace.seconds:
        yield (
            "  other programs",
            f"had the cores: by the clock it took {_duration(pace.clock_seconds)}. Only computing counts, "
            "which may still be slower than on a quiet machine",
        )
    if pace.share < 1:
        yield "extrapolated", f"by operations, x {1 / pace.share:.3g}, to all frames and clips of a step"
    yield "a step", _duration(seconds)
    if plan.steps_per_epoch is not None:
        passes = f"{plan.steps_per_epoch:.3g} steps"
        yield "an epoch", f"{_duration(seconds * plan.steps_per_epoch)} ({passes})"
    yield "the training", f"{_duration(seconds * plan.steps)} ({plan.steps} steps, without validation)"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number > 1 else "")


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
