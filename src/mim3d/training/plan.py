"""What a training will take, in memory and time, before any of it runs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mim3d.errors import UserError
from mim3d.machine import computes_bfloat16, resident_bytes
from mim3d.nn import NETWORKS
from mim3d.nn.network import MOST_FREED_BYTES
from mim3d.training.cost import Memory, clip_grid, clips_at_a_time, step_cost
from mim3d.training.layout import FrameLayout, frame_layout
from mim3d.training.pace import Pace, measure_pace
from mim3d.training.recipe import Recipe

MAPPED = "MALLOC_MMAP_THRESHOLD_=65536 in the environment"
"""Makes the GNU C library give back every tensor that is freed, for time."""

_MAPPED_FACTOR = 1.1
"""What a process then held over what its tensors need; 1.07 was measured."""


@dataclass(frozen=True)
class Plan:
    """Cost of a training.

    Parameters
    ----------
    num_weights
        Numbers in the network.
    clips, frames
        That one device takes at a time, and frames of a clip.
    grid
        Voxels along each axis of a training clip.
    memory
        Of the tensors, on one device.
    flop
        Operations of a step in convolutions and matrix products, on one device.
    moved_bytes
        That all else reads and writes in a step.
    pace
        What a real piece of a step took here; None where the device is not here, or too little of its memory
        is free.
    steps, steps_per_epoch
        Of the training; of one pass over the clips, None without data.
    process_bytes
        What the process needs: all tensors, and beside them what was measured with the piece.
    limit
        Bytes that there are; None where nobody knows.
    remedies
        Where memory does not suffice: by name of the switch, the `process_bytes` that it would leave.
    """

    num_weights: int
    clips: int
    frames: int
    grid: tuple[int, ...]
    memory: Memory
    flop: int
    moved_bytes: int
    pace: Pace | None
    steps: int
    steps_per_epoch: float | None
    process_bytes: int
    limit: int | None
    remedies: dict[str, int]

    @property
    def seconds_per_step(self) -> float | None:
        """Time of a step; None where no piece of one was measured."""
        return None if self.pace is None else self.pace.step_seconds

    @property
    def fits(self) -> bool | None:
        """Whether memory suffices; None where its size is not known."""
        return None if self.limit is None else self.process_bytes <= self.limit


def plan_training(
    recipe: Recipe,
    *,
    grid: Sequence[int] | None = None,
    device: str = "cpu",
    limit: int | None = None,
) -> Plan:
    """Work out what a training of a recipe needs.

    A step is traced on tensors without values, so every tensor that PyTorch would make is counted as long as
    it would live. Then, where the device is here, a real piece of a step is taken, as many of its frames as
    can be measured within seconds: time, and memory beside tensors, are those of the piece, continued by
    operations and bytes to the whole step.

    Parameters
    ----------
    recipe
        What would be trained. Channels and grid come from `data.folder`, from the data set that the recipe
        names, or from `data.fields` and `grid`.
    grid
        Voxels along each axis, where there are no data and the data set has no size of its own.
    device
        `cpu` or `cuda`.
    limit
        Bytes of memory to plan for; by default what is free on the device, where it is here.

    Returns
    -------
    Plan
        Memory and time.

    Raises
    ------
    UserError
        If the recipe does not fit the data, nothing says how large a frame is, or there is no such device.
    """
    chosen = _device(device)
    recipe, layout = frame_layout(recipe, grid)
    if chosen.type == "cuda":
        # Runs are kept in the computer's memory, not in the GPU's.
        layout = replace(layout, run_bytes=0)
    is_half = _is_half(recipe, chosen)
    cost = step_cost(recipe, layout, is_half)
    is_here = chosen.type == "cpu" or torch.cuda.is_available()
    free = _free_bytes(chosen) if is_here else None
    pace = measure_pace(recipe, layout, cost, chosen, is_half, free) if is_here else None
    limit = free if limit is None else limit
    needed = _process_bytes(cost.memory, pace, recipe, chosen)
    remedies: dict[str, int] = {}
    if limit is not None and needed > limit:
        remedies = _remedies(recipe, layout, chosen, pace, cost.memory)
    repeats = 2 if recipe.training.time_reversed else 1
    return Plan(
        num_weights=cost.num_weights,
        clips=clips_at_a_time(recipe),
        frames=recipe.data.frames,
        grid=clip_grid(recipe, layout),
        memory=cost.memory,
        flop=cost.flop * recipe.training.accumulate,
        moved_bytes=cost.moved_bytes * recipe.training.accumulate,
        pace=pace,
        steps=recipe.training.steps,
        steps_per_epoch=None if layout.clips is None else repeats * layout.clips / recipe.data.batch_size,
        process_bytes=needed,
        limit=limit,
        remedies=remedies,
    )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"a plan is for the device cpu or cuda, found {name!r}")
    return device


def _is_half(recipe: Recipe, device: torch.device) -> bool:
    """Whether convolutions run in 16 bits, by the same rule as the training's."""
    if recipe.machine.precision == "auto":
        # GPUs of today have it; one that is not here cannot be asked.
        is_away = device.type == "cuda" and not torch.cuda.is_available()
        return is_away or computes_bfloat16(device)
    return "16" in recipe.machine.precision


def _process_bytes(memory: Memory, pace: Pace | None, recipe: Recipe, device: torch.device) -> int:
    """Return what a process needs; where nothing was measured, what its tensors need."""
    if pace is None:
        return memory.total
    gives_back = recipe.training.recompute and device.type == "cpu"
    return memory.runs + pace.process_bytes(memory.step, MOST_FREED_BYTES if gives_back else None)


def _remedies(
    recipe: Recipe, layout: FrameLayout, device: torch.device, pace: Pace | None, memory: Memory
) -> dict[str, int]:
    """Work out what each switch would leave, and name those that help, one by one and then together."""

    def needed_with(changed: Recipe) -> int:
        kept = layout if changed.machine.cache else replace(layout, run_bytes=0)
        left = step_cost(changed, kept, _is_half(changed, device)).memory
        return _process_bytes(left, pace, changed, device)

    switches = _switches(recipe, device)
    totals = {name: needed_with(_changed(recipe, change)) for name, change in switches.items()}
    needed = _process_bytes(memory, pace, recipe, device)
    # Half precision keeps copies of weights and inputs: a small network may need more with it.
    totals = {name: total for name, total in totals.items() if total < needed}
    if len(totals) > 1:
        together = recipe
        for name in totals:
            together = _changed(together, switches[name])
        totals["all of these"] = needed_with(together)
    if device.type == "cpu" and pace is not None and pace.factor > _MAPPED_FACTOR:
        totals[MAPPED] = _process_bytes(memory, replace(pace, factor=_MAPPED_FACTOR), recipe, device)
    return totals


def _switches(recipe: Recipe, device: torch.device) -> dict[str, dict[str, Any]]:
    """Name what needs less memory and changes little, with what it changes in the parts of a recipe."""
    training, machine, network = recipe.training, recipe.machine, recipe.network
    changes: dict[str, dict[str, Any]] = {}
    if not training.recompute:
        changes["training.recompute true"] = {"training": {"recompute": True}}
    # Where no hardware multiplies bfloat16, it would cost a hundred times the time.
    chosen = _changed(recipe, {"machine": {"precision": "auto"}})
    if _is_half(chosen, device) and not _is_half(recipe, device):
        changes["machine.precision bf16-mixed"] = {"machine": {"precision": "bf16-mixed"}}
    if clips_at_a_time(recipe) > 1:
        parts = training.accumulate * clips_at_a_time(recipe)
        changes[f"training.accumulate {parts}"] = {"training": {"accumulate": parts}}
    arguments = inspect.signature(NETWORKS[network.name]).parameters
    default = arguments["peephole"].default if "peephole" in arguments else None
    if network.settings.get("peephole", default) == "voxel":
        settings = {**network.settings, "peephole": "channel"}
        changes["network.settings.peephole channel"] = {"network": {"settings": settings}}
    if machine.cache:
        changes["machine.cache false"] = {"machine": {"cache": False}}
    return changes


def _changed(recipe: Recipe, change: dict[str, dict[str, Any]]) -> Recipe:
    parts = {name: replace(getattr(recipe, name), **values) for name, values in change.items()}
    return replace(recipe, **parts)


def _free_bytes(device: torch.device) -> int | None:
    """Return what a process may take that starts when this one has ended."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    entries = dict(line.split(":") for line in info.read_text().splitlines())
    return int(entries["MemAvailable"].split()[0]) * 1024 + (resident_bytes("VmRSS") or 0)
