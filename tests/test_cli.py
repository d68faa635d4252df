"""The command line as a user types it: good, odd and bad input."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy import units as u

import mim3d
from mim3d.checkpoint import save
from mim3d.cli import main
from mim3d.data import well
from mim3d.supernova.units import CM_PER_PC, GRAM_PER_MSUN


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the drawing, which takes most of the time, where a test is not about it."""
    for name in ("draw_summary", "animate_forecast"):
        monkeypatch.setattr(f"mim3d.report.run.{name}", lambda comparison, path: path.write_bytes(b"picture"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of one's own to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def forecast(model_path, *arguments):
    return main(["forecast", *map(str, arguments), f"--model={model_path}", "--device=cpu"])


def refused(capsys, *words):
    """Check that the last command said what is wrong on one line, and return the line."""
    error = capsys.readouterr().err.strip()
    assert error.startswith("mim3d: error: ")
    assert len(error.splitlines()) == 1
    for word in words:
        assert word in error, error
    return error


def write_changed(path, trajectory, **changes):
    well.write(path, replace(trajectory, **changes))
    return path


def run_process(*arguments, **options):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mim3d", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


# --- good input


def test_plan_says_what_a_training_takes(capsys):
    flags = ["--grid", "8", "8", "8", "--memory=0.001", "--data.frames=8", "--data.batch_size", "2"]
    assert main(["plan", "tiny", *flags]) == 0
    out = capsys.readouterr().out
    for word in (
        "weights",
        "activations",
        "not enough",
        "training.recompute true",
        "a step",
        "measured",
        "for Python and its libraries",
        "2 clips of 8 frames, 8 x 8 x 8 voxels",
    ):
        assert word in out
    assert main(["plan", "tiny"]) == 2
    refused(capsys, "--grid")


def test_plan_of_named_data_sets(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    network = ["--network.name=mim", '--network.settings={"hidden_channels": [4, 4], "patch_size": 4}']
    assert main(["plan", "taxibj", *network]) == 0
    out = capsys.readouterr().out
    for word in ("8 clips of 8 frames, 32 x 32 voxels", "the best of", "the training", "160000 steps"):
        assert word in out
    away = ["--device", "cuda", "--memory", "80", *network]
    assert main(["plan", "moving-mnist", *away]) == 0
    out = capsys.readouterr().out
    for word in ("8 clips of 20 frames, 64 x 64", "80 GB", "not known: the device is not here"):
        assert word in out
    assert "not enough" not in out
    assert main(["plan", "radar", "--grid", "96", "128", *away]) == 0
    assert "96 x 128" in capsys.readouterr().out
    assert main(["plan", "radar"]) == 2
    refused(capsys, "--grid HEIGHT WIDTH")
    assert main(["plan", "moving-mnist", "--grid", "32", "32"]) == 2
    refused(capsys, "64 x 64, not 32 x 32: leave --grid out")
    assert main(["plan", "folder"]) == 2
    refused(capsys, "--data DIR")


def test_a_folder_is_forecast_file_by_file(folder, model_path, blast_path, capsys):
    (folder / "in").mkdir()
    (folder / "in/cloud.h5").symlink_to(blast_path)
    assert forecast(model_path, "in", "--steps=2", "--output=out") == 0
    assert "1 forecast in" in capsys.readouterr().out
    assert sorted(os.listdir(folder / "out")) == ["cloud.h5", "forecasts.json"]
    (folder / "in/bad.h5").write_bytes(b"x")
    assert forecast(model_path, "in", "--steps=2", "--output=out") == 2
    refused(capsys, "1 file could not be forecast")
    assert forecast(model_path, blast_path, "--workers=2") == 2
    refused(capsys, "need a folder")


def test_forecast_writes_the_folder_and_prints_the_table(folder, model_path, blast_path, capsys):
    assert forecast(model_path, blast_path) == 0
    out = capsys.readouterr().out
    assert sorted(path.name for path in (folder / "forecast").iterdir()) == [
        "forecast.gif",
        "forecast.h5",
        "forecast.json",
        "summary.png",
    ]
    assert os.listdir(folder) == ["forecast"]
    for word in (
        "untrained on cpu",
        "persistence",
        "0.1267",
        "19 frames in",
        "the simulation, which took 12.5 s",
    ):
        assert word in out
    saved = well.read(folder / "forecast/forecast.h5")
    assert saved.fields["density"].shape == (19, 16, 16, 16)
    assert saved.units["density"] == u.Msun / u.pc**3
    record = json.loads((folder / "forecast/forecast.json").read_text())
    assert record["model"] == "untrained"
    assert len(record["scores"]["mid_plane_error"]) == 19
    # An untrained network is persistence, more or less.
    assert record["scores"]["mid_plane_error"][-1] == pytest.approx(
        record["scores"]["persistence_mid_plane_error"][-1], rel=0.05
    )
    assert record["simulation_shell_radius_pc"][-1] == pytest.approx(15, abs=3)


@pytest.mark.usefixtures("no_pictures")
def test_forecast_again_replaces_its_own_files_and_keeps_the_users(folder, model_path, blast_path, capsys):
    assert forecast(model_path, blast_path, "--steps=4") == 0
    # Four of the nineteen frames that the simulation's time was spent on.
    assert "took 12.5 s where it was run for all its frames, 21% of it for these" in capsys.readouterr().out
    (folder / "forecast/notes.txt").write_text("mine")
    assert forecast(model_path, blast_path, "--steps=3") == 0
    assert (folder / "forecast/notes.txt").read_text() == "mine"
    assert len(well.read(folder / "forecast/forecast.h5")) == 3
    assert os.listdir(folder) == ["forecast"]


@pytest.mark.usefixtures("no_pictures")
def test_forecast_without_a_file_runs_the_bundled_cloud(folder, model_path, blast_path, monkeypatch, capsys):
    monkeypatch.setattr("mim3d.report.run.example_path", lambda: blast_path)
    assert forecast(model_path, "--steps=2", "--output=here") == 0
    assert "bundled example cloud" in capsys.readouterr().out
    assert (folder / "here/forecast.gif").is_file()


def test_info_tells_what_there_is(model_path, blast_path, capsys):
    assert main(["info", str(blast_path)]) == 0
    out = capsys.readouterr().out
    for word in ("16 x 16 x 16", "60 x 60 x 60", "twin", "density", "Msun / pc3", "20, times 0 to 0.12667"):
        assert word in out, out
    assert main(["info", str(model_path)]) == 0
    out = capsys.readouterr().out
    for word in ("multiscale-mim", "density [Msun / pc3], affected", "site", "0.00666667 Myr"):
        assert word in out


def test_evaluate_scores_a_folder(folder, model_path, blast_like, capsys):
    for seed in (1, 2):
        well.write(folder / f"runs/run_{seed}.h5", blast_like(grid=16, seed=seed))
    assert main(["evaluate", str(model_path), "runs", "--steps=5", "--device=cpu"]) == 0
    assert "2 runs" in capsys.readouterr().out
    record = json.loads((folder / "evaluation/evaluation.json").read_text())
    assert record["runs"] == 2
    assert len(record["scores"]["iou"]) == 5
    assert (folder / "evaluation/evaluation.png").stat().st_size > 10_000
    low = record["spread_over_runs"]["mid_plane_error"]["percentile_16"][-1]
    assert low < record["scores"]["mid_plane_error"][-1]
    assert record["vrmse"]["density"]["one step"] > 0
    with (folder / "evaluation/runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["run_1.h5", "run_2.h5"]
    mean = np.mean([float(row["volume_error"]) for row in rows])
    assert mean == pytest.approx(record["scores"]["volume_error"][-1], rel=1e-4)


def test_evaluate_compares_sets(folder, model_path, blast_like, capsys):
    well.write(folder / "ordinary/run.h5", blast_like(grid=16, seed=1))
    well.write(folder / "fast/run.h5", blast_like(grid=16, seed=1, speed=1.3))
    assert main(["evaluate", str(model_path), "ordinary", "fast", "--steps=3", "--device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "ordinary" in out
    assert "fast" in out
    record = json.loads((folder / "evaluation/evaluation.json").read_text())
    assert [each["source"] for each in record["sets"]] == ["ordinary", "fast"]
    errors = [each["scores"]["mid_plane_error"][-1] for each in record["sets"]]
    assert errors[1] > errors[0] == record["scores"]["mid_plane_error"][-1]
    with (folder / "evaluation/scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6


@pytest.mark.usefixtures("no_pictures")
def test_samples_of_the_original_programs(folder, make_checkpoint, small_blast):
    from mim3d.data import original

    density = small_blast.fields["density"][:, None]
    original.write("samples.npz", [density[:5], density[3:8]], input_length=1)
    path = folder / "m.safetensors"
    save(make_checkpoint(), path)
    options = ["samples.npz", "--run=1", "--box=60", "--units", "density=Msun/pc3"]
    assert forecast(path, *options, "--steps=4") == 0
    record = json.loads((folder / "forecast/forecast.json").read_text())
    assert len(record["scores"]["mid_plane_error"]) == 4


def test_simulate_then_forecast(folder, make_checkpoint, capsys):
    options = ["--runs=1", "--grid=16", "--voxels=8", "--frames=2", "--workers=1", "--seed=3"]
    ranges = ["--fields", "density", "--mach", "1", "2"]
    result = run_process("simulate", "--output=sims", *options, *ranges, cwd=folder)
    assert (result.returncode, result.stdout) == (0, "1 run in sims\n"), result.stderr
    run = well.read("sims/run_000000.h5")
    assert run.fields["density"].shape == (3, 8, 8, 8)
    assert list(run.fields) == ["density"]
    assert run.twin is not None
    assert 1 <= run.parameters["mach_number"].value <= 2
    save(make_checkpoint(grid=8), folder / "m.safetensors")
    assert main(["evaluate", "m.safetensors", "sims", "--device=cpu"]) == 0
    assert "1 run, " in capsys.readouterr().out


def test_simulate_hands_on_places_and_energies(folder, monkeypatch):
    seen = []
    monkeypatch.setattr("mim3d.campaign.run_campaign", lambda settings, output: seen.append(settings) or [])
    for options in (
        ["--energy", "2e51"],
        ["--energy", "5e50", "2e51", "--site", "filament", "--site-reach", "9"],
        ["--site", "20", "30", "40", "--explosions", "2"],
    ):
        assert main(["simulate", "--output=sims", *options]) == 0
    assert [settings.energy for settings in seen] == [2e51, (5e50, 2e51), 1e51]
    assert [settings.site for settings in seen] == [None, "filament", (20.0, 30.0, 40.0)]
    assert (seen[1].site_reach, seen[2].explosions) == (9.0, 2)


@pytest.mark.usefixtures("no_pictures")
def test_the_energy_of_the_explosion_reaches_the_network(folder, make_checkpoint, blast_path):
    known = make_checkpoint()
    scaling = {**known.scaling, "channels": ["density", "affected", "site_energy"]}
    save(replace(known, static=("site_energy",), scaling=scaling), folder / "m.safetensors")
    for energy in ("1e51", "2e51"):
        assert (
            forecast("m.safetensors", blast_path, "--steps=1", f"--energy={energy}", f"--output={energy}")
            == 0
        )
    weak, strong = (well.read(f"{energy}/forecast.h5").fields["density"] for energy in ("1e51", "2e51"))
    assert not np.array_equal(weak, strong)
    assert forecast("m.safetensors", blast_path, "--steps=1", "--energy=1e40") == 2


@pytest.mark.usefixtures("no_pictures")
def test_a_calibrated_model_warns_and_strict_ends_with_three(folder, make_checkpoint, blast_like, capsys):
    save(make_checkpoint(), folder / "m.safetensors")
    for seed in range(5):
        well.write(folder / f"runs/run_{seed}.h5", blast_like(frames=3, grid=16, seed=seed))
    well.write("known.h5", blast_like(frames=3, grid=16, seed=0))
    strict = ["--steps=2", "--strict", "--members=2"]
    assert forecast("m.safetensors", "known.h5", *strict) == 3
    out = capsys.readouterr().out
    assert "no guard: m does not know" in out
    assert "not calibrated" in out
    options = ["--data=runs", "--members=2", "--output=c.safetensors", "--device=cpu"]
    assert main(["calibrate", "m.safetensors", *options]) == 0
    assert "spread calibrated with 2 members" in capsys.readouterr().out
    assert forecast("c.safetensors", "known.h5", *strict) == 0
    out = capsys.readouterr().out
    assert "guard: inside the training range" in out
    assert "calibrated on validation clouds" in out
    with h5py.File("forecast/forecast.h5") as file:
        assert file.attrs["guard"] == "inside"
    saved = well.read("forecast/forecast.h5")
    assert saved.units["density_spread"] == u.dex
    assert saved.fields["density_spread"].min() > 0

    blast = blast_like(frames=3, grid=16, seed=0)
    dense = {"density": 30 * blast.fields["density"]}
    write_changed(folder / "dense/run.h5", blast, fields=dense, twin=replace(blast.twin, fields=dense))
    assert forecast("c.safetensors", "dense/run.h5", "--steps=2") == 0
    assert "OUTSIDE the training range: density" in capsys.readouterr().out
    assert forecast("c.safetensors", "dense/run.h5", *strict) == 3
    record = json.loads((folder / "forecast/forecast.json").read_text())
    assert record["guard"] == "outside"
    assert "trained on" in record["guard_reasons"]
    assert main(["info", "c.safetensors"]) == 0
    assert "trained on density " in capsys.readouterr().out
    assert main(["evaluate", "c.safetensors", "runs", "dense", "--members=2", "--device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "90% intervals of density hold" in out
    sets = json.loads((folder / "evaluation/evaluation.json").read_text())["sets"]
    assert sets[0]["guard"]["flagged"] <= 1
    assert sets[1]["guard"]["flagged"] == 1
    with (folder / "evaluation/runs.csv").open() as file:
        assert [row["guard"] for row in csv.DictReader(file)][-1] == "outside"


def test_train_hands_on_recipe_flags_and_folders(folder, monkeypatch, capsys):
    seen = {}

    def train(recipe, output):
        seen.update(recipe=recipe, output=output)
        return output / "model.safetensors"

    monkeypatch.setattr("mim3d.training.train", train, raising=False)
    (folder / "r.yaml").write_text("training:\n  steps: 7\n")
    flags = ["--training.seed", "5", "--optimizer.learning_rate=0.01"]
    assert main(["train", "r.yaml", "--data=sims", "--output=out", *flags]) == 0
    recipe = seen["recipe"]
    assert (recipe.training.steps, recipe.training.seed) == (7, 5)
    assert recipe.optimizer.learning_rate == 0.01
    assert str(recipe.data.folder) == "sims"
    assert str(seen["output"]) == "out"
    assert "out/model.safetensors" in capsys.readouterr().out
    assert main(["train", "r.yaml", "--output=out", "--training.stepz=1"]) == 2
    refused(capsys, "stepz")


def test_convert_hands_on_its_options(folder, make_checkpoint, monkeypatch, capsys):
    seen = {}

    def convert(source, target, **options):
        seen.update(options, source=str(source), target=str(target))
        return make_checkpoint()

    monkeypatch.setattr("mim3d.compat.convert", convert)
    arguments = ["model.ckpt-7", "out.safetensors", "--patch-size=2", "--grid", "8", "8", "--average"]
    assert main(["convert", *arguments]) == 0
    assert seen == {
        "source": "model.ckpt-7",
        "target": "out.safetensors",
        "patch_size": 2,
        "grid": [8, 8],
        "average": True,
    }
    assert "multiscale-mim" in capsys.readouterr().out


@pytest.fixture
def snapshot(tmp_path):
    """Write gas as SWIFT does: in kpc and 1e10 Msun, around (1, 2, 3) kpc, thicker on one side."""
    random = np.random.default_rng(4)
    count = 20_000
    positions = np.array([1.0, 2.0, 3.0]) + random.uniform(-0.04, 0.04, (count, 3))
    with h5py.File(tmp_path / "snapshot.hdf5", "w") as file:
        header = file.create_group("Header").attrs
        header["NumPart_ThisFile"] = header["NumPart_Total"] = [count, 0, 0, 0, 0, 0]
        header["NumFilesPerSnapshot"] = 1
        header["BoxSize"] = [10.0] * 3
        kpc_cm, mass_g = 1e3 * CM_PER_PC, 1e10 * GRAM_PER_MSUN
        file.create_group("Units").attrs.update(
            {
                "Unit length in cgs (U_L)": [kpc_cm],
                "Unit mass in cgs (U_M)": [mass_g],
                "Unit time in cgs (U_t)": [kpc_cm / 1e5],
            }
        )
        gas = file.create_group("PartType0")
        gas["Coordinates"] = positions
        gas["Masses"] = np.full(count, 1.5 * 80.0**3 / count / 1e10)
        gas["Velocities"] = np.zeros((count, 3))
        gas["ParticleIDs"] = np.arange(count) + 1_000_000
    return tmp_path / "snapshot.hdf5"


@pytest.mark.usefixtures("no_pictures")
def test_particles_in_and_ids_of_the_affected_out(folder, make_checkpoint, snapshot, capsys):
    save(make_checkpoint(provenance={"affected_threshold": -1.0}), folder / "all.safetensors")
    assert forecast("all.safetensors", snapshot, "--steps=2", "--center", "1000", "2000", "3000") == 0
    with h5py.File(folder / "forecast/affected_particles.h5") as file, h5py.File(snapshot) as source:
        ids = np.asarray(file["ids"])
        inside = np.all(np.abs(np.asarray(source["PartType0/Coordinates"]) - [1, 2, 3]) < 0.03, axis=1)
        # With this threshold, all gas of the box of 60 pc counts as affected.
        np.testing.assert_array_equal(ids, np.asarray(source["PartType0/ParticleIDs"])[inside])
    assert f"{len(ids)} of 20000 particles are affected" in capsys.readouterr().out
    saved = well.read(folder / "forecast/forecast.h5")
    assert saved.site == pytest.approx((1000, 2000, 3000))
    assert saved.fields["density"].mean() == pytest.approx(1.5, rel=0.1)
    assert main(["info", str(snapshot)]) == 0
    assert "Coordinates (20000, 3)" in capsys.readouterr().out


def test_particles_need_a_place(folder, model_path, snapshot, capsys):
    assert forecast(model_path, snapshot) == 2
    refused(capsys, "--center")
    assert forecast(model_path, snapshot, "--center", "0", "0", "0") == 2
    refused(capsys, "no gas particle in the box")
    assert forecast(model_path, snapshot, "--center", "0", "0", "0", "--units", "colour=red") == 2
    refused(capsys, "length, mass and velocity, found colour")
    content = snapshot.read_bytes()
    snapshot.write_bytes(content[: len(content) // 2])
    assert forecast(model_path, snapshot, "--center", "1000", "2000", "3000") == 2
    refused(capsys, "cut short")


# --- odd input


def test_a_single_frame_is_forecast_without_scores(folder, model_path, small_blast, capsys):
    path = write_changed(folder / "one.h5", small_blast.window(0, 1), twin=None, parameters={})
    assert forecast(model_path, path, "--steps=3") == 0
    out = capsys.readouterr().out
    assert "persistence" not in out
    assert "simulation" not in out
    assert "scores" not in json.loads((folder / "forecast/forecast.json").read_text())
    assert (folder / "forecast/summary.png").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_without_a_twin_there_is_no_iou(folder, model_path, small_blast, capsys):
    path = write_changed(folder / "no_twin.h5", small_blast, twin=None)
    assert forecast(model_path, path, "--steps=3") == 0
    out = capsys.readouterr().out
    assert "IoU" not in out
    assert "persistence" in out


def test_frames_beyond_the_simulation_are_not_scored(folder, model_path, small_blast):
    path = write_changed(folder / "short.h5", small_blast.window(0, 4))
    assert forecast(model_path, path, "--steps=6") == 0
    errors = json.loads((folder / "forecast/forecast.json").read_text())["scores"]["mid_plane_error"]
    assert [error is None for error in errors] == [False] * 3 + [True] * 3


@pytest.mark.usefixtures("no_pictures")
def test_another_place_to_explode(folder, model_path, blast_path, capsys):
    assert forecast(model_path, blast_path, "--steps=1", "--center", "20", "30", "31") == 0
    assert well.read(folder / "forecast/forecast.h5").site == (20.0, 30.0, 31.0)
    assert forecast(model_path, blast_path, "--output=x", "--center", "20", "-3", "31") == 2
    refused(capsys, "outside the box along y")


@pytest.mark.usefixtures("no_pictures")
def test_an_empty_output_folder_is_used(folder, model_path, blast_path):
    (folder / "out").mkdir()
    assert forecast(model_path, blast_path, "--steps=1", "--output=out") == 0
    assert (folder / "out/forecast.json").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_several_runs_in_a_file(folder, model_path, blast_like, capsys):
    well.write("two.h5", [blast_like(grid=16, seed=1), blast_like(grid=16, seed=2)])
    assert forecast(model_path, "two.h5", "--run=1", "--steps=1") == 0
    assert forecast(model_path, "two.h5", "--run=2", "--steps=1") == 2
    refused(capsys, "2 trajectories")


@pytest.mark.usefixtures("no_pictures")
def test_files_without_units_are_asked_for_them(folder, model_path, blast_path, capsys):
    path = folder / "bare.h5"
    path.write_bytes(blast_path.read_bytes())
    with h5py.File(path, "r+") as file:
        for group in ("t0_fields", "twin/t0_fields"):
            del file[group]["density"].attrs["units"]
    assert forecast(model_path, path, "--steps=1") == 2
    refused(capsys, "density", "units")
    assert forecast(model_path, path, "--steps=1", "--units", "density=Msun/pc3") == 0


# --- bad input


BAD_GAS = {
    "negative": (
        lambda d: d.__setitem__((0, 4, 0, 7), -0.3),
        ["density must be > 0", "(4, 0, 7)", "frame 0"],
    ),
    "nan": (lambda d: d.__setitem__((0, 1, 2, 3), np.nan), ["nan", "(1, 2, 3)", "frame 0"]),
}


@pytest.mark.parametrize("kind", BAD_GAS)
def test_impossible_density(folder, model_path, small_blast, capsys, kind):
    damage, words = BAD_GAS[kind]
    density = small_blast.fields["density"].copy()
    damage(density)
    path = write_changed(folder / "bad.h5", small_blast, fields={"density": density})
    assert forecast(model_path, path) == 2
    refused(capsys, "bad.h5", *words)
    assert os.listdir(folder) == ["bad.h5"]


def test_wrong_box(folder, model_path, blast_like, capsys):
    well.write("small.h5", blast_like(grid=16, box=30.0))
    assert forecast(model_path, "small.h5") == 2
    refused(capsys, "60 x 60 x 60 pc", "30 x 30 x 30 pc", "3.75")
    assert os.listdir(folder) == ["small.h5"]


def test_wrong_grid(folder, model_path, blast_like, capsys):
    well.write("coarse.h5", blast_like(grid=8))
    assert forecast(model_path, "coarse.h5") == 2
    refused(capsys, "grid of 16 x 16 x 16", "8 x 8 x 8")


def test_wrong_unit(folder, model_path, small_blast, capsys):
    density = {"density": small_blast.fields["density"]}
    path = write_changed(folder / "hot.h5", small_blast, fields=density, units={"density": u.K}, twin=None)
    assert forecast(model_path, path) == 2
    refused(capsys, "'density' is in K", "Msun / pc3")


def test_truncated_and_missing_and_foreign_files(folder, model_path, blast_path, capsys):
    content = blast_path.read_bytes()
    (folder / "cut.h5").write_bytes(content[: len(content) // 2])
    (folder / "text.h5").write_text("density 44.5")
    (folder / "empty.h5").write_bytes(b"")
    for name, word in {
        "cut.h5": "cut short",
        "text.h5": "neither an HDF5 file nor an npz",
        "empty.h5": "empty",
        "none.h5": "no file none.h5",
    }.items():
        assert forecast(model_path, name) == 2
        refused(capsys, word)
        assert main(["info", name]) == 2
        refused(capsys, word)
    assert main(["info", "."]) == 2
    refused(capsys, "folder")
    assert sorted(os.listdir(folder)) == ["cut.h5", "empty.h5", "text.h5"]


def test_bad_models(folder, blast_path, capsys):
    (folder / "broken.safetensors").write_bytes(b"12345678901234567890")
    assert forecast("broken.safetensors", blast_path) == 2
    refused(capsys, "broken.safetensors")
    assert forecast("nothing", blast_path) == 2
    refused(capsys, "no model 'nothing'")
    assert os.listdir(folder) == ["broken.safetensors"]


def test_folders_of_others_are_left_alone(folder, model_path, blast_path, capsys):
    (folder / "thesis").mkdir()
    (folder / "thesis/chapter1.tex").write_text("years of work")
    assert forecast(model_path, blast_path, "--output=thesis", "--steps=1") == 2
    refused(capsys, "thesis", "other files")
    assert os.listdir(folder / "thesis") == ["chapter1.tex"]
    (folder / "file").write_text("x")
    assert forecast(model_path, blast_path, "--output=file", "--steps=1") == 2
    refused(capsys, "is a file")
    assert forecast(model_path, blast_path, "--output=file/deeper", "--steps=1") == 2
    refused(capsys, "file")
    assert sorted(os.listdir(folder)) == ["file", "thesis"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_output(folder, model_path, blast_path, capsys):
    (folder / "closed").mkdir(mode=0o500)
    assert forecast(model_path, blast_path, "--output=closed/out") == 2
    refused(capsys, "closed")


def test_unwritable_output_for_everyone(model_path, blast_path, capsys):
    assert forecast(model_path, blast_path, "--output=/proc/forecast", "--steps=1") == 2
    refused(capsys, "/proc/forecast")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["forecast", "--stepz=3"], ["unrecognized arguments: --stepz=3", "mim3d forecast --help"]),
        (["forecast", "--steps=0"], ["steps"]),
        (["forecast", "--steps=many"], ["steps", "many"]),
        (["forecast", "--center", "1", "2"], ["--center", "3 arguments"]),
        (["forecast", "x.h5", "--units", "density"], ["NAME=UNIT", "'density'"]),
        (["forecast", "--device=abacus"], ["abacus"]),
        (["dance"], ["dance"]),
        (["train", "recipe.yaml"], ["output"]),
        (["train", "no_such_recipe", "--output=x"], ["no_such_recipe"]),
        (["train", "x.yaml", "--output=x", "--training.steps"], ["--training.steps needs a value"]),
        (["convert", "no/model.ckpt", "x.safetensors"], ["no/model.ckpt"]),
        (["evaluate", "sn32"], ["folder"]),
        (["simulate", "--output=x", "--runs=-1"], ["runs"]),
        (["simulate", "--output=x", "--grid=64", "--voxels=48"], ["multiple", "48"]),
        (["simulate", "--output=x", "--fields", "colour"], ["colour"]),
        (["simulate", "--output=x", "--density", "5", "1"], ["density"]),
        (["simulate", "--output=x", "--energy", "1", "2", "3"], ["--energy takes one number or two"]),
        (["simulate", "--output=x", "--site", "1", "2"], ["--site takes three numbers"]),
        (["simulate", "--output=x", "--site", "galaxy"], ["filament", "galaxy"]),
    ],
)
def test_mistakes_on_the_command_line(folder, model_path, capsys, arguments, words):
    if arguments[0] == "forecast":
        arguments = [*arguments, f"--model={model_path}"]
    assert main(arguments) == 2
    refused(capsys, *words)
    assert os.listdir(folder) == []


@pytest.mark.usefixtures("no_pictures")
def test_options_from_a_file(folder, model_path, blast_path):
    (folder / "options.yaml").write_text(f"steps: 2\nmodel: {model_path}\noutput: there\n")
    assert main(["forecast", "--config=options.yaml", str(blast_path)]) == 0
    assert len(well.read(folder / "there/forecast.h5")) == 2
    (folder / "wrong.yaml").write_text("stepz: 2\n")
    assert main(["forecast", "--config=wrong.yaml", str(blast_path)]) == 2


def test_help_states_the_defaults_that_hold(capsys):
    from mim3d.campaign import CampaignSettings

    assert main(["simulate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    defaults = CampaignSettings()
    for value in (defaults.runs, defaults.grid, defaults.voxels, defaults.seed, defaults.frames):
        assert f"({value})" in text
    for low, high in (defaults.density, defaults.mach):
        assert f"({low:g} {high:g})" in text
    assert f"({' '.join(defaults.fields)})" in text
    assert f"({defaults.box:g})" in text
    assert f"({defaults.temperature:g})" in text
    assert "(1/150)" in text
    assert defaults.time_step == pytest.approx(1 / 150)
    assert "(1e51)" in text
    assert defaults.energy == 1e51


# --- as a process


def test_help_and_version_are_quick():
    for arguments, word in ((["--help"], "forecast"), (["--version"], mim3d.__version__), ([], "COMMAND")):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = run_process(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert result.returncode == 0
        assert word in result.stdout
        # Of the processor: how long one waits depends on what else the machine does.
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    loaded = run_process("--help", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}).stderr
    for heavy in ("torch", "astropy", "matplotlib", "numpy", "pytorch_lightning", "h5py"):
        assert f"| {heavy}\n" not in loaded.replace("|   ", "| "), heavy


def test_exit_codes_of_the_process(tmp_path, blast_path, model_path):
    result = run_process("forecast", "none.h5", f"--model={model_path}", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "mim3d: error: no file none.h5\n"
    assert result.stdout.startswith("model untrained")
    assert os.listdir(tmp_path) == []


def test_ctrl_c(tmp_path, model_path, blast_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mim3d",
            "forecast",
            str(blast_path),
            f"--model={model_path}",
            "--steps=20000",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started the tests in the background may have had Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert "model" in process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (130, "mim3d: stopped\n")
    assert os.listdir(tmp_path) == []
