"""What a training step computes and keeps in memory, found by tracing it on tensors without values."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mim3d.nn import NETWORKS, ForecastNetwork, RecurrentForecaster
from mim3d.training.layout import FrameLayout
from mim3d.training.module import ForecastModule
from mim3d.training.recipe import Recipe
from mim3d.training.run import build_network
from mim3d.training.trace import tracing

TRACED_FRAMES = (5, 6)
"""Lengths of the clips that are traced. From the fifth frame on each adds what the one before added."""


@dataclass(frozen=True)
class Memory:
    """Bytes of the tensors of a training step on one device.

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
        """All tensors at most."""
        return self.step + self.runs


@dataclass(frozen=True)
class Cost:
    """Cost of the forward and the backward pass of the clips that a device takes at a time.

    Parameters
    ----------
    num_weights
        Numbers in the network.
    memory
        With the optimiser's update.
    flop
        Operations in convolutions and matrix products.
    moved_bytes
        That all else reads and writes.
    frame_flop, frame_bytes
        What every frame adds to `flop` and `memory.step`; 0 where a clip cannot be cut.
    """

    num_weights: int
    memory: Memory
    flop: int
    moved_bytes: int
    frame_flop: int = 0
    frame_bytes: int = 0


def clips_at_a_time(recipe: Recipe) -> int:
    """Return the clips that one device takes at a time."""
    processes = max(1, recipe.machine.devices) * recipe.machine.nodes
    return max(1, recipe.data.batch_size // recipe.training.accumulate // processes)


def clip_grid(recipe: Recipe, layout: FrameLayout) -> tuple[int, ...]:
    """Return the voxels along each axis of a training clip."""
    window = recipe.data.window
    return (window,) * len(layout.grid) if window else layout.grid


def can_be_cut(recipe: Recipe) -> bool:
    """Tell whether a few frames of a clip cost their share: a network that goes from frame to frame."""
    return issubclass(NETWORKS.get(recipe.network.name, RecurrentForecaster), RecurrentForecaster)


def shortened(recipe: Recipe, frames: int) -> Recipe:
    """Return the recipe for the first frames of its clips, as they are traced and measured.

    Feeding true frames draws random numbers, which need a trainer, and costs next to nothing.
    """
    data = recipe.data
    if frames < data.frames:
        data = replace(data, frames=frames, input_length=1)
    return replace(recipe, data=data, sampling=replace(recipe.sampling, start=0.0))


def step_cost(recipe: Recipe, layout: FrameLayout, is_half: bool) -> Cost:
    """Trace a step: two short clips, and the straight line through them to the recipe's number of frames."""
    # All frames of a network that does not go from frame to frame are one piece.
    if not can_be_cut(recipe) or recipe.data.frames <= TRACED_FRAMES[1]:
        cost = _trace_clip(shortened(recipe, recipe.data.frames), layout, is_half)
        return replace(cost, memory=replace(cost.memory, runs=layout.run_bytes))
    short, long = (_trace_clip(shortened(recipe, count), layout, is_half) for count in TRACED_FRAMES)
    more = recipe.data.frames - TRACED_FRAMES[1]

    def onward(before: int, after: int) -> int:
        return after + more * (after - before)

    memory = Memory(
        **{
            item.name: onward(getattr(short.memory, item.name), getattr(long.memory, item.name))
            for item in fields(Memory)
        }
    )
    return Cost(
        long.num_weights,
        replace(memory, runs=layout.run_bytes),
        onward(short.flop, long.flop),
        onward(short.moved_bytes, long.moved_bytes),
        long.flop - short.flop,
        long.memory.step - short.memory.step,
    )


def _trace_clip(recipe: Recipe, layout: FrameLayout, is_half: bool) -> Cost:
    # The moving average is a second set of weights, nothing more.
    traced = replace(recipe, training=replace(recipe.training, average=0.0))
    shape = (clips_at_a_time(recipe), recipe.data.frames, layout.clip_channels, *clip_grid(recipe, layout))
    with tracing() as trace:
        network = build_network(recipe, layout.in_channels, layout.grid, len(layout.static))
        weights = trace.live_bytes
        module = ForecastModule(network, layout.channels, traced, static=layout.static)
        module.log = log_nothing  # type: ignore[method-assign]
        made = trace.live_bytes
        batch = torch.empty(shape)
        before = trace.live_bytes
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            loss = module.training_step(batch, 0)
        activations = trace.live_bytes - before
        loss.backward()
        step = trace.peak_bytes
        flop, moved = trace.flop, trace.moved_bytes
        del loss, batch
        gradients = trace.live_bytes - made
        optimizer = module.configure_optimizers()["optimizer"]
        optimizer.step()
        moments = trace.live_bytes - made - gradients
        # The peak of the pass above comes again, with the optimiser's moments beside it.
        step = max(step + moments, trace.peak_bytes)
        states = _state_bytes(network, torch.empty(shape[0], *shape[2:]))
    average = weights if recipe.training.average else 0
    named = dict(network.named_parameters())
    return Cost(
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
    )


def log_nothing(*arguments: Any, **options: Any) -> None:
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
