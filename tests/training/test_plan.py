"""Plans against what a process then really takes, and what they say where memory does not suffice."""

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mim3d.errors import UserError
from mim3d.nn import build
from mim3d.nn.network import MOST_FREED_BYTES
from mim3d.training import ForecastDataModule, load_recipe, pace, plan
from mim3d.training.module import ForecastModule
from mim3d.training.plan import MAPPED, plan_training
from mim3d.training.run import build_network
from mim3d.training.trace import tracing

REAL_STEPS = """
import ctypes, json, multiprocessing, pathlib, sys, torch
from mim3d.training import load_recipe, pace, plan_training
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
    clips = recipe.data.batch_size // recipe.training.accumulate
    batch = torch.rand(clips, recipe.data.frames, 1, *grid)
    # How well the C library packs its memory varies in the first steps; after six it holds the same.
    for _ in range(6):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="16" in recipe.machine.precision):
            loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        del loss
    return status("VmHWM") - base

def alone(flags):
    # The libraries' own buffers, and their pages in this process, come with their first calls.
    taken((4, 4, 4), flags)
    return taken((16, 16, 16), flags)

torch.set_num_threads(1)
found = []
for flags in json.loads(sys.argv[1]):
    with multiprocessing.get_context("fork").Pool(1) as other:
        found.append([other.apply(alone, (flags,))])
    if len(sys.argv) > 2:
        taken((4, 4, 4), flags)
        pace._SECONDS = 0
        planned = plan_training(load_recipe("tiny", flags), grid=(16, 16, 16))
        kept = planned.process_bytes - planned.pace.base_bytes
        found[-1] += [kept, planned.pace.frames, planned.memory.step]
print(json.dumps(found))
"""

HALF = "--machine.precision=bf16-mixed"
PEEPHOLE = "--network.settings.peephole=channel"
MIM = [
    "--network.name=mim",
    '--network.settings={"hidden_channels": [8, 8], "kernel_size": 3}',
    "--data.fields=[density]",
    "--data.static=[]",
    "--training.average=0",
    "--data.frames=7",
    "--machine.precision=32-true",
]


needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs the GNU C library"
)


def really(cases, *arguments, **environment):
    command = [sys.executable, "-c", REAL_STEPS, json.dumps(cases), *arguments]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return json.loads(found.stdout)


@pytest.fixture
def elsewhere(monkeypatch):
    """Plan for a GPU that is not here: nothing is measured."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return {"device": "cuda"}


@needs_glibc
def test_tensors_are_what_a_process_then_holds():
    switches = (
        "--training.accumulate=1",
        "--training.recompute=true",
        HALF,
        "--training.accumulate=2",
        PEEPHOLE,
    )
    cases = [[*MIM, flag] for flag in switches]
    # Else the C library keeps freed tensors of this size, and with them as much again as is in use.
    for flags, (taken,) in zip(cases, really(cases, MALLOC_MMAP_THRESHOLD_=str(2**16)), strict=True):
        planned = plan_training(load_recipe("tiny", flags), grid=(16,) * 3).memory.total
        assert planned == pytest.approx(taken, rel=0.2), (flags[-1], planned, taken)


@needs_glibc
def test_what_the_c_library_keeps_is_measured_on_a_piece():
    ((taken, planned, frames, tensors),) = really([MIM], "plan")
    assert frames == 5
    assert planned == pytest.approx(taken, rel=0.2)
    # Without it the plan would be far off.
    assert taken > 1.4 * tensors


@pytest.mark.parametrize(
    ("held", "whole", "line"),
    [
        ({3: 90, 5: 150}, False, (30, 1.5)),
        ({3: 50, 5: 140}, False, (0, 1.75)),
        ({3: 40, 5: 60}, False, (0, 1.0)),
        ({3: None, 5: None}, False, (0, 1.0)),
        ({5: 160}, False, (0, 2.0)),
        ({5: 160}, True, (80, 1.0)),
    ],
    ids=["both", "short one packed well", "less than tensors", "unknown", "one", "all of a step"],
)
def test_what_a_process_holds_is_a_line_that_is_nowhere_below_zero(held, whole, line):
    assert pace._line({3: 40, 5: 80}, held, whole) == line


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


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["mim", "multiscale-mim"])
def test_weights_states_and_peepholes_are_counted(name, recompute):
    flags = [f"--network.name={name}", '--network.settings={"hidden_channels": [8, 8], "peephole": "voxel"}']
    recipe = load_recipe("tiny", [*flags, f"--training.recompute={str(recompute).lower()}"])
    planned = plan_training(recipe, grid=(8, 8, 8))
    network = build_network(recipe, 3, (8, 8, 8), 1)
    weights = sum(p.nbytes for p in network.parameters())
    assert planned.num_weights == sum(p.numel() for p in network.parameters())
    # The optimiser also counts its steps.
    assert planned.memory.weights == weights
    assert planned.memory.average == weights
    assert planned.memory.gradients == pytest.approx(weights, abs=100)
    assert planned.memory.optimizer == pytest.approx(2 * weights, abs=1000)
    voxels = 8**3 if name == "mim" else 2**3
    assert planned.memory.peepholes == 4 * 2 * 3 * 8 * voxels
    assert planned.memory.states == 4 * recipe.data.batch_size * (3 + 5) * 8 * voxels


def test_a_longer_clip_is_continued_from_shorter_ones():
    recipe = load_recipe("tiny", [*MIM, "--data.frames=8"])
    planned = plan_training(recipe, grid=(8, 8, 8))
    with tracing() as trace:
        module = ForecastModule(build_network(recipe, 1, (8, 8, 8)), ["density"], recipe)
        module.log = lambda *arguments, **options: None
        module.training_step(torch.empty(2, 8, 1, 8, 8, 8), 0).backward()
    assert planned.flop == trace.flop
    assert planned.memory.step == pytest.approx(trace.peak_bytes + planned.memory.optimizer, rel=0.02)


@pytest.mark.parametrize("name", ["mim", "multiscale-mim"])
def test_what_is_recomputed_is_there_for_its_own_gradient_alone(name):
    settings = {"in_channels": 2, "num_axes": 3, "hidden_channels": (8, 8), "peephole": "channel"}
    peaks = []
    for recompute in (False, True):
        with tracing() as trace:
            network = build(name, settings)
            frames = torch.empty(2, 9, 2, 32, 32, 32)
            before = trace.live_bytes
            network.unroll(frames, 1, checkpoint=recompute).sum().backward()
            gradients = sum(p.grad.nbytes for p in network.parameters() if p.grad is not None)
            assert trace.live_bytes == before + gradients
            peaks.append(trace.peak_bytes - before)
    assert peaks[1] < 0.3 * peaks[0]


def test_where_memory_does_not_suffice_switches_are_named_and_suffice(elsewhere):
    recipe = load_recipe("tiny", MIM)
    short = plan_training(recipe, grid=(16,) * 3, limit=10_000_000, **elsewhere)
    assert short.fits is False
    assert list(short.remedies) == [
        "training.recompute true",
        "machine.precision bf16-mixed",
        "training.accumulate 2",
        "network.settings.peephole channel",
        "all of these",
    ]
    assert short.remedies["all of these"] == min(short.remedies.values())
    every = []
    for name, total in short.remedies.items():
        assert total < short.process_bytes, name
        flags = ["--{}={}".format(*name.split(" "))] if name != "all of these" else every
        every += flags if name != "all of these" else []
        changed = load_recipe("tiny", [*MIM, *flags])
        then = plan_training(changed, grid=(16,) * 3, limit=total + 1000, **elsewhere)
        assert then.process_bytes == pytest.approx(total, abs=1000)
        assert then.fits
        assert then.remedies == {}


def test_half_precision_is_a_remedy_where_there_is_hardware_for_it(recipe, monkeypatch):
    made = recipe('--network.settings={"hidden_channels": [32, 32], "patch_size": 1}')
    for has, helps in (({"avx2": True}, False), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        assert ("machine.precision bf16-mixed" in plan_training(made, limit=1).remedies) is helps


def test_half_precision_and_runs_on_disk_are_remedies_too(recipe, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    made = recipe("--machine.cache=true", '--network.settings={"hidden_channels": [32, 32], "patch_size": 1}')
    short = plan_training(made, limit=1)
    assert "machine.precision bf16-mixed" in short.remedies
    half = plan_training(replace(made, machine=replace(made.machine, precision="bf16-mixed")))
    assert half.memory.total < short.memory.total
    runs = short.memory.runs
    # Bytes of the process are rounded.
    assert short.remedies["machine.cache false"] == pytest.approx(short.process_bytes - runs, abs=64)
    assert runs > 0


def test_a_c_library_that_gives_memory_back_is_a_remedy(monkeypatch):
    measured = pace.Pace("cpu", 1, 3, 2, 0.5, 0.5, 0.1, 0.0, 0.25, 400, 30, 2.0)
    monkeypatch.setattr(plan, "measure_pace", lambda *arguments: measured)
    recipe = load_recipe("tiny", MIM)
    short = plan_training(recipe, grid=(16,) * 3, limit=1)
    step = short.memory.step
    assert short.process_bytes == 430 + 2 * step
    assert short.remedies[MAPPED] == pytest.approx(430 + 1.1 * step, abs=1000)
    assert short.seconds_per_step == pytest.approx(2.1)


def test_with_recomputation_no_more_freed_memory_is_kept_than_is_given_back(monkeypatch):
    recipe = load_recipe("tiny", [*MIM, "--training.recompute=true"])
    for factor, freed in ((2.0, None), (1e6, MOST_FREED_BYTES)):
        measured = pace.Pace("cpu", 1, 3, 2, 0.5, 0.5, 0.1, 0.0, 0.25, 400, 30, factor)
        monkeypatch.setattr(plan, "measure_pace", lambda *arguments, measured=measured: measured)
        found = plan_training(recipe, grid=(16,) * 3)
        step = found.memory.step
        assert found.process_bytes == (430 + 2 * step if freed is None else 400 + step + freed)


def test_data_say_channels_grid_and_clips(recipe):
    made = recipe("--machine.cache=true")
    made_plan = plan_training(made)
    data = ForecastDataModule(made)
    assert made_plan.steps_per_epoch == len(data.training) / made.data.batch_size
    # Half precision: two channels of four frames that move, and the site once.
    clips = len(data.training) + len(data.validation)
    assert made_plan.memory.runs == 2 * clips * (4 * 2 + 1) * 8**3
    with pytest.raises(UserError, match=r"8 x 8 x 8, not 9 x 9 x 9: leave --grid out"):
        plan_training(made, grid=(9, 9, 9))
    with pytest.raises(UserError, match="--data DIR, or --grid"):
        plan_training(load_recipe("tiny"))
    with pytest.raises(UserError, match="cpu or cuda, found 'tpu'"):
        plan_training(made, device="tpu")


def test_a_guide_is_as_many_channels_again(elsewhere):
    settings = "hidden_channels: [4, 4]"
    flags = ["--network.name=unet", "--data.fields=[density, affected]", "--sampling.start=0"]
    plain, guided = (
        plan_training(
            load_recipe("tiny", [*flags, f"--network.settings={{{settings}, guided: {word}}}"]),
            grid=(8,) * 3,
            **elsewhere,
        )
        for word in ("false", "true")
    )
    # Three frames of two channels more, in the first convolution and the last layer.
    assert guided.num_weights - plain.num_weights == 6 * 4 * 3**3 + 6 * 6
    assert guided.flop > plain.flop


def test_a_step_is_all_its_parts(elsewhere):
    whole, parts = (
        plan_training(load_recipe("tiny", [*MIM, f"--training.accumulate={n}"]), grid=(8,) * 3, **elsewhere)
        for n in (1, 2)
    )
    assert parts.clips == 1
    assert parts.flop == whole.flop
    assert parts.memory.activations < 0.6 * whole.memory.activations
    assert whole.pace is None
    assert whole.seconds_per_step is None


def test_time_is_that_of_a_real_piece_continued_by_operations(monkeypatch, recipe):
    flags = [*MIM, "--data.batch_size=4", "--training.accumulate=2", "--training.average=0.9"]
    made = load_recipe("tiny", flags)

    def seconds_of_operations(meter, function):
        """Go by a clock that other programs do not disturb."""
        with FlopCounterMode(display=False) as counter:
            function()
        return (1e-9 * counter.get_total_flops(),) * 2

    monkeypatch.setattr(pace._Meter, "seconds", seconds_of_operations)
    monkeypatch.setattr(pace, "_SECONDS", 0.0)
    short = plan_training(made, grid=(16,) * 3)
    monkeypatch.setattr(pace, "_SECONDS", 1e9)
    long = plan_training(made, grid=(16,) * 3)
    assert (short.pace.clips, short.pace.frames, long.pace.frames) == (2, 5, 7)
    assert long.pace.share == 0.5
    with tracing() as trace:
        plain = replace(made, training=replace(made.training, average=0.0))
        module = ForecastModule(build_network(made, 1, (16,) * 3), ["density"], plain)
        module.log = lambda *arguments, **options: None
        module.training_step(torch.empty(2, 5, 1, 16, 16, 16), 0).backward()
    assert short.pace.share == trace.flop / short.flop
    expected = short.pace.seconds / short.pace.share + short.pace.update_seconds
    assert short.seconds_per_step == expected
    assert short.seconds_per_step == pytest.approx(long.seconds_per_step)
    assert short.seconds_per_step == pytest.approx(1e-9 * short.flop)
    monkeypatch.undo()
    assert plan_training(recipe()).pace.reading_seconds > 0
    assert plan_training(recipe("--machine.workers=1")).pace.reading_seconds == 0


def test_a_piece_is_no_larger_than_what_is_free(monkeypatch):
    made = load_recipe("tiny", MIM)
    step = plan_training(made, grid=(8,) * 3).memory.step
    for room, clips in ((10 * step, 2), (step // 2, 1), (step // 20, None)):
        monkeypatch.setattr(plan, "_free_bytes", lambda device, room=room: room)
        found = plan_training(made, grid=(8,) * 3, limit=10**12).pace
        assert (None if found is None else found.clips) == clips


def test_random_numbers_and_threads_stay_the_callers():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    plan_training(load_recipe("tiny", [*MIM, "--machine.threads=2"]), grid=(8,) * 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
