"""Plans against what a process then really takes, and what they say where memory does not suffice."""

import ctypes
import json
import os
import subprocess
import sys

import pytest
import torch

from mim3d.errors import UserError
from mim3d.training import ForecastDataModule, load_recipe
from mim3d.training.module import ForecastModule
from mim3d.training.plan import plan_training
from mim3d.training.run import build_network
from mim3d.training.trace import tracing

REAL_STEPS = """
import ctypes, json, pathlib, sys, torch
from mim3d.training import load_recipe
from mim3d.training.module import ForecastModule
from mim3d.training.run import build_network

def status(name):
    lines = pathlib.Path("/proc/self/status").read_text()
    return int(lines.split(name + ":")[1].split()[0]) * 1024

def taken(grid, flags):
    recipe = load_recipe("tiny", flags)
    # What was there before is given back, and the peak starts anew.
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    base = status("VmRSS")
    module = ForecastModule(build_network(recipe, 1, grid), ["density"], recipe)
    module.log = lambda *arguments, **options: None
    optimizer = module.configure_optimizers()["optimizer"]
    batch = torch.rand(recipe.data.batch_size, recipe.data.frames, 1, *grid)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="16" in recipe.machine.precision):
            loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
    return status("VmHWM") - base

torch.set_num_threads(1)
cases = json.loads(sys.argv[1])
# The libraries' own buffers come with their first calls.
for flags in cases:
    taken((4, 4, 4), flags)
print(json.dumps([taken((24, 24, 24), flags) for flags in cases]))
"""

HALF = "--machine.precision=bf16-mixed"
MIM = [
    "--network.name=mim",
    '--network.settings={"hidden_channels": [8, 8], "kernel_size": 3}',
    "--data.fields=[density]",
    "--data.static=[]",
    "--training.average=0",
    "--data.frames=7",
    "--machine.precision=32-true",
]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs the GNU C library")
def test_memory_is_what_a_process_then_takes():
    cases = [[*MIM, flag] for flag in ("--training.accumulate=1", "--training.recompute=true", HALF)]
    command = [sys.executable, "-c", REAL_STEPS, json.dumps(cases)]
    # Else the C library keeps freed tensors of this size, and with them as much again as is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    for flags, taken in zip(cases, json.loads(found), strict=True):
        planned = plan_training(load_recipe("tiny", flags), grid=(24,) * 3).memory.total
        assert planned == pytest.approx(taken, rel=0.2), (flags[-1], planned, taken)


def test_what_is_saved_for_the_backward_pass_is_what_pytorch_says():
    recipe = load_recipe("tiny", MIM)
    saved = {}

    def note(tensor):
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    module = ForecastModule(build_network(recipe, 1, (8,) * 3), ["density"], recipe)
    module.log = lambda *arguments, **options: None
    weights = {p.untyped_storage()._cdata for p in module.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = module.training_step(torch.rand(2, 7, 1, 8, 8, 8), 0)
    kept = sum(storage.nbytes() for key, storage in saved.items() if key not in weights)
    planned = plan_training(recipe, grid=(8,) * 3).memory.activations
    assert loss.requires_grad
    assert planned == pytest.approx(kept, rel=0.03)


@pytest.mark.parametrize("name", ["mim", "multiscale-mim"])
def test_weights_states_and_peepholes_are_counted(name):
    flags = [f"--network.name={name}", '--network.settings={"hidden_channels": [8, 8], "peephole": "voxel"}']
    recipe = load_recipe("tiny", flags)
    plan = plan_training(recipe, grid=(8, 8, 8))
    network = build_network(recipe, 3, (8, 8, 8), 1)
    weights = sum(p.nbytes for p in network.parameters())
    assert plan.num_weights == sum(p.numel() for p in network.parameters())
    # The optimiser also counts its steps.
    assert plan.memory.weights == weights
    assert plan.memory.average == weights
    assert plan.memory.gradients == pytest.approx(weights, abs=100)
    assert plan.memory.optimizer == pytest.approx(2 * weights, abs=1000)
    voxels = 8**3 if name == "mim" else 2**3
    assert plan.memory.peepholes == 4 * 2 * 3 * 8 * voxels
    assert plan.memory.states == 4 * recipe.data.batch_size * (3 + 5) * 8 * voxels


def test_a_longer_clip_is_continued_from_shorter_ones():
    recipe = load_recipe("tiny", [*MIM, "--data.frames=6"])
    plan = plan_training(recipe, grid=(8, 8, 8))
    with tracing() as trace:
        module = ForecastModule(build_network(recipe, 1, (8, 8, 8)), ["density"], recipe)
        module.log = lambda *arguments, **options: None
        module.training_step(torch.empty(2, 6, 1, 8, 8, 8), 0).backward()
    assert plan.flop == trace.flop
    assert plan.flop == sum(conv.flop * count for conv, count in trace.convolutions.items())
    assert plan.memory.step == pytest.approx(trace.peak_bytes + plan.memory.optimizer, rel=0.02)


def test_where_memory_does_not_suffice_switches_are_named():
    recipe = load_recipe("tiny", MIM)
    plan = plan_training(recipe, grid=(16,) * 3, limit=10_000_000)
    assert plan.fits is False
    assert list(plan.remedies) == [
        "training.recompute true",
        "training.accumulate 2",
        "network.settings.peephole channel",
        "all of these",
    ]
    for name, total in plan.remedies.items():
        assert total < plan.memory.total, name
    assert plan.remedies["all of these"] == min(plan.remedies.values())
    assert plan_training(recipe, grid=(8, 8, 8), limit=10**12).remedies == {}


def test_data_say_channels_grid_and_clips(recipe):
    made = recipe("--machine.cache=true")
    plan = plan_training(made)
    clips = ForecastDataModule(made).training
    assert plan.steps_per_epoch == len(clips) / made.data.batch_size
    assert plan.memory.runs == 4 * len(clips.runs) * 4 * 3 * 8**3
    assert plan.seconds_per_step is not None
    assert plan.seconds_per_step > 0
    with pytest.raises(UserError, match="--data DIR, or --grid"):
        plan_training(load_recipe("tiny"))
