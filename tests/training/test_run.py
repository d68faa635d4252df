import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import load_file

from mim3d import checkpoint as checkpoints
from mim3d.data import well
from mim3d.errors import UserError
from mim3d.supernova import CloudSettings, simulate
from mim3d.training import ForecastModule, train


def table(output: Path) -> list[dict[str, str]]:
    with (output / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_training_learns_and_leaves_a_checkpoint(recipe, tmp_path: Path, capsys):
    settings = recipe("--training.steps=60", "--training.validate_every=30", "--optimizer.learning_rate=0.01")
    path = train(settings, tmp_path / "out")
    assert path == tmp_path / "out" / "model.safetensors"
    rows = table(tmp_path / "out")
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert losses[-1] < 0.7 * losses[0]
    validated = [row for row in rows if row["val_score"]]
    assert [row["step"] for row in validated] == ["30", "60"]
    assert float(validated[-1]["val_ratio"]) < 0.8
    assert float(validated[-1]["val_affected_iou"]) > 0.5
    printed = capsys.readouterr().out
    assert "step 60/60" in printed
    assert "of persistence" in printed

    stored = checkpoints.read(path)
    assert stored.fields == ("density", "affected")
    assert stored.static == ("site",)
    assert stored.grid == (8, 8, 8)
    assert stored.box_size == pytest.approx((60, 60, 60))
    assert stored.time_step == pytest.approx(1 / 150)
    assert (stored.input_length, stored.num_frames) == (1, 4)
    assert stored.units["density"] == "solMass / pc3"
    assert stored.provenance["recipe"]["training"]["steps"] == 60
    assert stored.guard is not None
    assert stored.guard["fields"] == ["density"]
    found = [stored.provenance["training_runs"], len(stored.provenance["validation_runs"])]
    assert stored.guard["clouds"] == found
    assert str(tmp_path) not in str(stored.provenance)
    frames = torch.zeros(1, 1, 3, 8, 8, 8)
    assert stored.build_network().forecast(frames, 3).shape == (1, 3, 3, 8, 8, 8)
    assert {item.name for item in (tmp_path / "out").iterdir()} == {
        "last.ckpt",
        "metrics.csv",
        "model.safetensors",
        "recipe.yaml",
        "tensorboard",
    }
    assert any((tmp_path / "out" / "tensorboard").iterdir())

    before = path.stat().st_mtime_ns
    assert train(settings, tmp_path / "out") == path
    assert path.stat().st_mtime_ns == before


SCHEDULES = (
    "--training.steps=20",
    "--training.validate_every=8",
    "--training.save_every=5",
    "--training.accumulate=2",
    "--sampling.start=1.0",
    "--sampling.rate=0.03",
    "--data.fields=[density, affected]",
    "--machine.precision=32-true",
)


def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


KILLED = """
    import os, signal, sys, torch
    from mim3d.training import ForecastModule, load_recipe, train
    torch.set_num_threads(1)
    step = ForecastModule.training_step
    def killed(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        if self.global_step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return loss
    ForecastModule.training_step = killed
    train(load_recipe("tiny", sys.argv[3:]), sys.argv[2])
"""


def test_killed_and_resumed_gives_the_weights_of_the_uninterrupted_run(recipe, runs, tmp_path: Path):
    # The state of step 15 is there, and the validation of step 16 has been and must be again.
    step = 18
    settings = recipe(*SCHEDULES)
    train(settings, tmp_path / "whole")
    killed = run(KILLED, step, tmp_path / "killed", f"--data.folder={runs}", *SCHEDULES)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    state = torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)
    assert state["global_step"] == step // 5 * 5
    train(settings, tmp_path / "killed")
    assert_same_weights(tmp_path / "whole" / "model.safetensors", tmp_path / "killed" / "model.safetensors")
    assert table(tmp_path / "whole") == table(tmp_path / "killed")
    one, other = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "killed")
    )
    torch.testing.assert_close(one["state_dict"], other["state_dict"], atol=0, rtol=0)
    torch.testing.assert_close(one["optimizer_states"], other["optimizer_states"], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
@pytest.mark.parametrize("step", [7, 5], ids=["between validations", "at a validation"])
def test_a_signal_stops_between_steps_and_the_run_goes_on_from_there(
    recipe, tmp_path: Path, monkeypatch, number, raised, step
):
    settings = recipe("--training.steps=12", "--training.validate_every=6", "--training.save_every=100")
    train(settings, tmp_path / "whole")
    original = ForecastModule.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == step:
            signal.raise_signal(number)
        return original(self, batch, batch_idx)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(ForecastModule, "training_step", interrupted)
    with pytest.raises(raised) as caught:
        train(settings, tmp_path / "stopped")
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is before
    if raised is SystemExit:
        assert caught.value.code == 128 + signal.SIGTERM
    assert torch.load(tmp_path / "stopped" / "last.ckpt", weights_only=True)["global_step"] == step + 1
    train(settings, tmp_path / "stopped")
    assert_same_weights(tmp_path / "whole" / "model.safetensors", tmp_path / "stopped" / "model.safetensors")
    assert table(tmp_path / "whole") == table(tmp_path / "stopped")


DISTRIBUTED = """
    import sys, torch
    from mim3d.training import load_recipe, train
    torch.set_num_threads(1)
    train(load_recipe("tiny", sys.argv[2:]), sys.argv[1])
"""


def test_two_processes_train_what_one_trains(recipe, runs, tmp_path: Path):
    flags = (
        "--training.steps=6",
        "--training.validate_every=3",
        "--sampling.start=0.7",
        "--data.batch_size=4",
        "--machine.precision=32-true",
    )
    train(recipe(*flags), tmp_path / "one")
    script = tmp_path / "distributed.py"
    script.write_text(textwrap.dedent(DISTRIBUTED))
    together = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(script, tmp_path / "two", f"--data.folder={runs}", "--machine.accelerator=cpu", *flags),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert together.returncode == 0, together.stderr
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-6, rtol=0)
    for row, other in zip(table(tmp_path / "one"), table(tmp_path / "two"), strict=True):
        for name, number in row.items():
            if number:
                assert float(other[name]) == pytest.approx(float(number), rel=1e-4, abs=1e-6)


def test_training_starts_from_a_checkpoint(recipe, tmp_path: Path):
    steps = ("--training.steps=2", "--training.validate_every=2")
    first = train(recipe(*steps), tmp_path / "first")
    still = ("--optimizer.learning_rate=1e-12", "--training.average=0", "--training.seed=5")
    second = train(recipe(*steps, *still, f"--network.start={first}"), tmp_path / "second")
    for name, value in load_file(first).items():
        torch.testing.assert_close(load_file(second)[name], value, atol=1e-6, rtol=0)
    assert checkpoints.read(second).scaling == checkpoints.read(first).scaling
    with pytest.raises(UserError, match="has the channels density, affected, site; the recipe has density"):
        train(recipe(*steps, "--data.fields=[density]", f"--network.start={first}"), tmp_path / "third")
    with pytest.raises(UserError, match="of other settings than the recipe's"):
        train(recipe(*steps, "--network.settings.kernel_size=1", f"--network.start={first}"), tmp_path / "4")


def test_nothing_is_left_of_a_training_that_did_not_begin(recipe, runs: Path, tmp_path: Path):
    folder = tmp_path / "runs"
    shutil.copytree(runs, folder)
    with h5py.File(folder / "run_3.h5", "r+") as file:
        file["t0_fields/density"][0, 2, 1, 1, 1] = -1.0
    broken = recipe(f"--data.folder={folder}", "--data.shares=[0.5, 0.5, 0.0]")
    with pytest.raises(UserError, match="density must be > 0 everywhere"):
        train(broken, tmp_path / "new" / "one")
    assert not (tmp_path / "new" / "one").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="density must be > 0 everywhere"):
        train(broken, tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


def test_a_guided_network_is_trained_from_one_that_is_not(recipe, tmp_path: Path):
    folder = tmp_path / "gas"
    folder.mkdir()
    times = tuple(frame / 150 for frame in range(4))
    for seed in range(4):
        cloud = CloudSettings(grid=8, voxels=8, frame_times=times, seed=seed)
        well.write(
            folder / f"run_{seed}.h5", simulate([cloud], fields=("density", "temperature", "velocity"))
        )
    steps = (
        "--training.steps=2",
        "--training.validate_every=2",
        "--sampling.start=0",
        f"--data.folder={folder}",
        "--data.shares=[0.5, 0.5, 0.0]",
        "--data.fields=[density, affected]",
        "--network.name=unet",
        "--network.settings={hidden_channels: [4, 4]}",
        "--machine.cache=true",
    )
    first = train(recipe(*steps), tmp_path / "first")
    guided = (*steps[:-2], "--network.settings={hidden_channels: [4, 4], guided: true}", steps[-1])
    still = ("--optimizer.learning_rate=1e-12", "--training.average=0", f"--network.start={first}")
    second = train(recipe(*guided, *still), tmp_path / "second")
    made = checkpoints.read(second)
    assert made.settings["guided"] is True
    expected = made.build_network().weights_from(checkpoints.read(first).build_network(), [0, 1, 2])
    for name, value in made.weights.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)
    third = train(recipe(*guided, f"--network.start={second}"), tmp_path / "third")
    assert not torch.equal(load_file(third)["to_frames.weight"], load_file(second)["to_frames.weight"])
    with pytest.raises(UserError, match="of other settings than the recipe's"):
        train(recipe(*steps, f"--network.start={second}"), tmp_path / "fourth")
    alone = ("--data.fields=[density]", "--data.static=[]", f"--network.start={second}")
    fewer = checkpoints.read(train(recipe(*guided, *alone, *still[:2]), tmp_path / "fifth"))
    assert fewer.fields == ("density",)
    assert fewer.scaling["scale"] == made.scaling["scale"][:1]
    torch.testing.assert_close(
        fewer.weights["to_frames.bias"], made.weights["to_frames.bias"][::2], atol=1e-6, rtol=0
    )


def test_last_step_is_validated_even_where_it_is_not_due(recipe, tmp_path: Path):
    train(recipe("--training.steps=5", "--training.validate_every=3"), tmp_path)
    assert [row["step"] for row in table(tmp_path) if row["val_score"]] == ["3", "5"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--training.recompute=true"],
        ["--machine.precision=bf16-mixed"],
        ["--machine.workers=1"],
        ["--machine.cache=true"],
        ["--training.time_reversed=true", "--optimizer.name=original-adam", "--loss.kind=half-sum-squared"],
        ["--network.name=mim", "--network.settings={hidden_channels: [4, 4], kernel_size: 3, patch_size: 2}"],
    ],
    ids=lambda flags: flags[0].split(".")[-1],
)
def test_other_ways_to_train(recipe, tmp_path: Path, flags: list[str]):
    path = train(recipe("--training.steps=2", "--training.validate_every=2", *flags), tmp_path)
    assert checkpoints.read(path).provenance["step"] == 2


def test_recomputing_changes_no_gradient(recipe, tmp_path: Path):
    flags = ("--training.steps=3", "--training.validate_every=3")
    kept = train(recipe(*flags), tmp_path / "kept")
    recomputed = train(recipe(*flags, "--training.recompute=true"), tmp_path / "recomputed")
    for name, value in load_file(kept).items():
        torch.testing.assert_close(load_file(recomputed)[name], value, atol=1e-6, rtol=0)


def test_without_validation_the_last_weights_are_kept(recipe, tmp_path: Path):
    path = train(recipe("--training.steps=3", "--data.shares=[1, 0, 0]"), tmp_path)
    assert checkpoints.read(path).provenance["validation_score"] is None


def test_another_recipe_is_not_mixed_in(recipe, runs, tmp_path: Path):
    train(recipe("--training.steps=2", "--training.validate_every=2"), tmp_path)
    with pytest.raises(UserError, match=r"training\.steps was 2, is 3"):
        train(recipe("--training.steps=3", "--training.validate_every=2"), tmp_path)
    with pytest.raises(UserError, match="holds a training already"):
        train(recipe("--training.steps=2", "--training.validate_every=2"), tmp_path, resume=False)
    (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"last\.ckpt cannot be read"):
        train(recipe("--training.steps=2", "--training.validate_every=2"), tmp_path)


def test_where_it_runs_and_where_the_data_lie_may_change(recipe, runs, tmp_path: Path, monkeypatch):
    flags = ("--training.steps=4", "--training.validate_every=4", "--training.save_every=1")
    original = ForecastModule.training_step

    def broken(self, batch, batch_idx):
        if self.global_step == 2:
            raise RuntimeError("the machine broke")
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ForecastModule, "training_step", broken)
    with pytest.raises(RuntimeError, match="the machine broke"):
        train(recipe(*flags), tmp_path / "out")
    monkeypatch.undo()
    (tmp_path / "moved").symlink_to(runs)
    moved = (f"--data.folder={tmp_path / 'moved'}", "--machine.workers=1", "--training.recompute=true")
    train(recipe(*flags, *moved), tmp_path / "out")
    assert [row["step"] for row in table(tmp_path / "out")] == ["4", "4"]


def test_out_of_memory_is_one_clear_line(recipe, tmp_path: Path, monkeypatch):
    def full(self, batch, batch_idx):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(ForecastModule, "training_step", full)
    with pytest.raises(UserError, match=r"out of memory with data\.batch_size 2: raise training\.accumulate"):
        train(recipe(), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_training(recipe, tmp_path: Path):
    with pytest.raises(UserError, match=r"at step \d+: try a lower optimizer\.learning_rate"):
        train(recipe("--optimizer.learning_rate=1e30", "--optimizer.warm_up=0"), tmp_path)


def test_output_that_is_a_file(recipe, tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot make the output folder"):
        train(recipe(), tmp_path / "taken")
