"""Every data set of images from a tiny file of its public format: train two steps, evaluate, draw."""

import json
from functools import partial

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mim3d import checkpoint as checkpoints
from mim3d import forecasting
from mim3d.cli import main
from mim3d.data.datasets import DATASETS, commands, idx
from mim3d.report.images import open_as_trained
from mim3d.training import load_recipe, packaged_recipes
from tests.radar_files import write_archive, write_sevir

SMALL = {
    "network.settings.hidden_channels": "[3, 3]",
    "network.settings.kernel_size": "3",
    "data.batch_size": "2",
    "data.validation_clips": "2",
    "training.steps": "2",
    "training.validate_every": "2",
    "training.save_every": "2",
    "machine.accelerator": "cpu",
}
GENERATED = {"count": 3, "num_frames": 4, "input_length": 2}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_digits(folder):
    random = np.random.default_rng(0)
    for name, count in (("train", 30), ("t10k", 7)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 6:22, 8:20] = random.integers(1, 256, (count, 16, 12))
        idx.write(folder / f"{name}-images-idx3-ubyte.gz", images)
    return folder, {**GENERATED, "size": 32}


def write_box(folder):
    write_digits(folder)
    return folder, {**GENERATED, "size": 16}


def write_samples(folder):
    digits, options = write_digits(folder / "digits")
    commands.make("moving-mnist", folder / "made", source=digits, **options)
    return folder / "made", {}


def write_taxibj(folder):
    folder.mkdir()
    slots = np.arange(10 * 48)
    flows = 100 * (1 + np.sin(2 * np.pi * slots / 48)[:, None, None, None] * np.linspace(0, 1, 8))
    with h5py.File(folder / "BJ13_M32x32_T30_InOut.h5", "w") as file:
        file["data"] = np.broadcast_to(flows, (len(slots), 2, 8, 8))
        file["date"] = [f"201310{1 + slot // 48:02d}{1 + slot % 48:02d}".encode() for slot in slots]
    return folder, {"test_windows": 5, "validation_days": 2}


def write_openstl_taxibj(folder):
    folder.mkdir()
    random = np.random.default_rng(0)
    sizes = {"X_train": 20, "Y_train": 20, "X_test": 3, "Y_test": 3}
    arrays = {name: random.uniform(-1, 1, (size, 4, 2, 8, 8)) for name, size in sizes.items()}
    np.savez(folder / "dataset.npz", **arrays)
    return folder, {"highest": 1292}


def write_human36m(folder):
    folder.mkdir(parents=True)
    for subject in ("S1", "S8", "S9"):
        for frame in range(15):
            image = np.zeros((32, 32, 3), np.uint8)
            image[8 + frame % 8 : 24, 8:24] = (200, 20 * frame % 255, 90)
            Image.fromarray(image).save(folder / f"{subject}_Walking.54138969_{1 + 5 * frame:06d}.jpg")
    return folder, {"size": 16}


def write_openstl_human36m(folder):
    write_human36m(folder / "images")
    for name, subjects in (("train", ("S1", "S8")), ("test", ("S9",))):
        lines = [f"images/{s}_Walking.54138969_,{b},{b + 70}" for s in subjects for b in (1, 6)]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return folder, {"protocol": "openstl", "size": 16}


RADAR_OPTIONS = {"num_frames": 4, "input_length": 2, "tile": 16}


def write_radar(kind, folder):
    y, x = np.mgrid[:16, :16]
    echo = [55 * np.exp(-((x - 3 - 0.3 * k) ** 2 + (y - 8) ** 2) / 20) for k in range(40)]
    # In steps that every format has.
    reflectivity = np.round(2 * np.stack(echo)) / 2
    reflectivity[:, 0, :3] = np.nan
    times = np.datetime64("2019-06-10T00:00:00") + np.arange(40) * np.timedelta64(5, "m")
    return write_archive(kind, folder, times, reflectivity), RADAR_OPTIONS


def write_radar_of_sevir(folder):
    folder.mkdir()
    starts = np.datetime64("2019-01-01T00:00:00") + np.arange(10) * np.timedelta64(9, "D")
    vil = np.random.default_rng(0).integers(0, 255, (10, 16, 16, 7))
    write_sevir(folder, list(starts), vil)
    return folder, {**RADAR_OPTIONS, "validation_from": "2019-03-01", "test_from": "2019-03-20"}


def write_folder(folder):
    folder.mkdir()
    x = np.linspace(0, 2 * np.pi, 16)
    for part in ("train", "validation", "test"):
        (folder / part).mkdir()
        waves = np.sin(x[None, :, None] + x[None, None, :] - 0.3 * np.arange(12)[:, None, None])
        np.save(folder / part / "wave.npy", waves.astype(np.float32))
    (folder / "dataset.yaml").write_text(
        "name: waves\ninput_length: 2\nnum_frames: 4\naxes: TYX\nchannels: [height]\n"
        "value_range: [-1, 1]\nunit: m\ntime_step: 2\ntime_unit: s\n"
    )
    return folder, {}


WRITERS = {
    "moving-mnist": write_digits,
    "moving-fashion-mnist": write_digits,
    "color-moving-mnist": write_digits,
    "moving-mnist-3d": write_box,
    "taxibj": write_taxibj,
    "human36m": write_human36m,
    "radar": partial(write_radar, "npz"),
    "folder": write_folder,
}
"""Files of every data set."""

OTHER_FILES = {
    "moving-mnist as npz": write_samples,
    "taxibj of OpenSTL": write_openstl_taxibj,
    "human36m of OpenSTL": write_openstl_human36m,
    **{
        f"radar as {kind}": partial(write_radar, kind) for kind in ("knmi", "odim", "pgm", "mrms", "meteonet")
    },
    "radar as sevir": write_radar_of_sevir,
}
"""What else is public of them; the first word is the name of the data set."""


def trained(files, folder, output, **changes):
    """Train two steps with the small recipe as a user does."""
    name = files.split()[0]
    data, options = (WRITERS | OTHER_FILES)[files](folder)
    flags = [f"--{key}={value}" for key, value in {**SMALL, **changes}.items()]
    flags += [f"--data.options.{key}={value}" for key, value in options.items()]
    assert main(["train", f"{name}-small", f"--data={data}", f"--output={output}", *flags]) == 0
    return data, [f"{key}={value}" for key, value in options.items()]


@pytest.mark.parametrize("files", WRITERS | OTHER_FILES)
def test_from_files_to_scores_and_pictures(files, tmp_path, monkeypatch, capsys):
    if "mrms" in files:
        pytest.importorskip("eccodes")
    monkeypatch.chdir(tmp_path)
    name = files.split()[0]
    data, options = trained(files, tmp_path / "data", tmp_path / "run")
    assert "squared error summed over a frame" in capsys.readouterr().out
    model = tmp_path / "run" / "model.safetensors"
    saved = checkpoints.read(model)
    given = (option.split("=") for option in options)
    card = DATASETS[name].open(data, "test", **{key: yaml.safe_load(value) for key, value in given})
    assert saved.dataset["name"] == name
    assert saved.fields == card.channels
    assert (saved.input_length, saved.num_frames) == (card.input_length, card.num_frames)
    assert saved.grid == card.grid
    assert saved.scaling == card.scaling.to_dict()

    where = ["--dataset", name, f"--data={data}", "--device=cpu"]
    with_options = ["--options", *options] if options else []
    assert main(["evaluate", str(model), *where, "--output=scores", "--count=2", *with_options]) == 0
    out = capsys.readouterr().out
    assert "in brackets: persistence" in out
    assert max(map(len, out.splitlines())) <= 100
    record = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    horizon = card.num_frames - card.input_length
    assert (record["dataset"], record["sequences"]) == (card.name, min(2, len(card)))
    for score in ("mse", "summed_squared_error", "mae", "psnr", "persistence_mse"):
        assert len(record["scores"][score]) == horizon
    pixels = np.prod(card.shape[1:])
    assert record["scores"]["summed_squared_error"] == pytest.approx(
        [pixels * value for value in record["scores"]["mse"]], rel=1e-5
    )
    for threshold in card.thresholds:
        assert len(record["scores"][f"csi_{threshold:g}"]) == horizon
    with Image.open(tmp_path / "scores" / "evaluation.png") as plot:
        assert plot.width > 600

    made = ["forecast", *where, f"--model={model}", "--output=shown", "--count=1", *with_options]
    assert main(made) == 0
    names = sorted(path.name for path in (tmp_path / "shown").iterdir())
    assert names == ["forecast.json", "forecast.npz", "sequence_0.gif", "sequence_0.png"]
    with Image.open(tmp_path / "shown" / "sequence_0.gif") as film:
        assert film.n_frames == card.num_frames
    with np.load(tmp_path / "shown" / "forecast.npz") as arrays:
        assert arrays["forecast"].shape == (1, horizon, *card.shape[1:])
        known = np.isfinite(arrays["truth"])
        physical = card.physical(card[0])[card.input_length :].numpy()
        np.testing.assert_allclose(arrays["truth"][0][known[0]], physical[known[0]], rtol=1e-5, atol=1e-5)


def test_the_bundled_model_of_a_data_set_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data, options = trained("moving-mnist", tmp_path / "data", tmp_path / "run")
    saved = tmp_path / "run" / "model.safetensors"
    of_gas = [path for path in forecasting.bundled_models() if not checkpoints.read(path).dataset]
    monkeypatch.setattr(forecasting, "bundled_models", lambda: [*of_gas, saved])
    capsys.readouterr()
    where = [f"--data={data}", "--device=cpu", "--options", *options]
    assert main(["forecast", "--dataset=moving-mnist", "--output=shown", *where]) == 0
    assert "model model on cpu" in capsys.readouterr().out
    assert main(["evaluate", "--dataset=moving-mnist", "--output=scores", "--count=1", *where]) == 0
    assert json.loads((tmp_path / "scores" / "evaluation.json").read_text())["model"] == "model"
    assert main(["forecast", "--dataset=moving-fashion-mnist", "--output=other", *where]) == 2
    error = capsys.readouterr().err
    assert "no bundled model was trained on moving-fashion-mnist" in error
    assert "mim3d train moving-fashion-mnist-small --output runs/moving-fashion-mnist" in error
    assert not (tmp_path / "other").exists()
    # Of gas it is none.
    assert forecasting.best_model(["density"]) == forecasting.best_model(["intensity"]) == "sn32-density"


def test_lpips_is_scored_with_the_users_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data, options = trained("moving-mnist", tmp_path / "data", tmp_path / "run")
    layers = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    weights = {}
    for number, (out, channels, side) in layers.items():
        weights[f"features.{number}.weight"] = 0.05 * torch.randn(out, channels, side, side)
        weights[f"features.{number}.bias"] = 0.05 * torch.randn(out)
    torch.save(weights, "alexnet.pth")
    capsys.readouterr()
    scored = ["evaluate", "run/model.safetensors", "--dataset=moving-mnist", f"--data={data}", "--device=cpu"]
    tail = ["--output=scores", "--count=1", "--options", *options]
    assert main([*scored, "--lpips", "nothing.pth", *tail]) == 2
    assert "no file nothing.pth" in capsys.readouterr().err
    assert main([*scored, "--extrapolation", *tail]) == 2
    assert "a reference for radar images" in capsys.readouterr().err
    assert not (tmp_path / "scores").exists()
    assert main([*scored, "--lpips", "alexnet.pth", *tail]) == 0
    out = capsys.readouterr().out
    assert "LPIPS" in out
    assert max(map(len, out.splitlines())) <= 100
    scores = json.loads((tmp_path / "scores" / "evaluation.json").read_text())["scores"]
    assert all(value > 0 for value in scores["lpips"] + scores["persistence_lpips"])
    assert len(scores["lpips"]) == 2


def test_extrapolation_stands_beside_persistence(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pysteps")
    pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    data, options = trained("radar", tmp_path / "data", tmp_path / "run")
    capsys.readouterr()
    scored = ["evaluate", "run/model.safetensors", "--dataset=radar", f"--data={data}", "--device=cpu"]
    assert main([*scored, "--extrapolation", "--output=scores", "--options", *options]) == 0
    out = capsys.readouterr().out
    assert "extrapolation, which moves it on" in out
    assert max(map(len, out.splitlines())) <= 100
    record = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    for name in ("csi_30", "summed_squared_error", "ssim", "physical_mae"):
        if np.isfinite(np.array(record["scores"][f"persistence_{name}"], float)).all():
            assert len(record["scores"][f"extrapolation_{name}"]) == 2
    assert record["pooled_scores"]["extrapolation_csi_30"] > 0.5
    assert not any(name.startswith("extrapolation_persistence") for name in record["scores"])


def test_every_data_set_has_both_recipes():
    assert set(WRITERS) == set(DATASETS)
    for name in DATASETS:
        for recipe in (name, f"{name}-small"):
            assert recipe in packaged_recipes()
            assert load_recipe(recipe).data.dataset == name


def test_training_resumes_and_refuses_another_data_set(tmp_path, capsys):
    _, _ = trained("moving-mnist", tmp_path / "data", tmp_path / "run")
    again = ["train", "moving-mnist-small", f"--data={tmp_path / 'data'}", f"--output={tmp_path / 'run'}"]
    flags = [f"--{key}={value}" for key, value in SMALL.items()]
    options = [f"--data.options.{key}={value}" for key, value in {**GENERATED, "size": 32}.items()]
    capsys.readouterr()
    assert main([*again, *flags, *options]) == 0
    assert "finished" in capsys.readouterr().out
    assert main([*again, *flags, *options, "--data.options.num_digits=3"]) == 2
    assert "num_digits was None, is 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.window=16"], "data.window is for folders of runs"),
        (["--data.options.colour=red"], "no option 'colour'"),
        (["--machine.cache=true"], "machine.cache is for folders of runs"),
        (["--data.dataset="], "data.folder is not given"),
        (["--data.dataset=kth"], "no data set 'kth'"),
    ],
)
def test_recipes_of_data_sets_refuse(flags, words, tmp_path, capsys):
    folder, _ = write_digits(tmp_path / "data")
    where = [] if flags == ["--data.dataset="] else [f"--data={folder}"]
    assert main(["train", "moving-mnist-small", *where, f"--output={tmp_path / 'run'}", *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "sn32"], "a folder of runs or the name of a data set"),
        (["evaluate", "sn32", "sims", "--dataset=moving-mnist"], "one of the two"),
        (["forecast", "cloud.h5", "--dataset=moving-mnist"], "not both"),
        (["forecast", "--dataset=taxibj", "--model=sn32-density"], "taxibj needs its files"),
        (["forecast", "--dataset=moving-mnist", "--members=4"], "--members turns and mirrors gas"),
        (["forecast", "--dataset=moving-mnist", "--strict"], "--strict asks the guard"),
        (["forecast", "--dataset=moving-mnist", "--center", "1", "2", "3"], "--center is for gas"),
        (["forecast", "--dataset=moving-mnist", "--workers=2"], "--workers is for gas"),
        (["forecast", "cloud.h5", "--count=2"], "--count is for a --dataset"),
        (["evaluate", "--dataset=moving-mnist", "--members=4"], "--members turns and mirrors gas"),
        (["evaluate", "sn32", "sims", "--split=train"], "--split is for a --dataset"),
        (["evaluate", "sn32", "sims", "--lpips", "alex.pth"], "--lpips is for a --dataset"),
        (["evaluate", "sn32", "sims", "--extrapolation"], "--extrapolation is for a --dataset"),
        (["evaluate"], "a folder of runs or the name of a data set"),
        (["forecast", "--dataset=kth", "--model=sn32"], "no data set 'kth'"),
        (["forecast", "--dataset=moving-mnist", "--model=sn32", "--options", "count"], "NAME=VALUE"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_something_else_is_refused(model_path, tmp_path, capsys):
    folder, _ = write_digits(tmp_path / "data")
    made = ["--dataset=moving-mnist", f"--data={folder}", f"--output={tmp_path / 'out'}", "--device=cpu"]
    assert main(["evaluate", str(model_path), *made]) == 2
    assert "forecasts density, affected, site, the channels of moving-mnist" in capsys.readouterr().err
    assert main(["forecast", f"--model={model_path}", *made]) == 2
    assert not (tmp_path / "out").exists()


def test_the_model_s_own_options_count_where_none_are_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shares = {"data.options.shares": "[0.5, 0.1, 0.4]"}
    data, _ = trained("radar", tmp_path / "data", tmp_path / "run", **shares)
    command = ["evaluate", "run/model.safetensors", "--dataset=radar", f"--data={data}", "--device=cpu"]
    capsys.readouterr()
    assert main([*command, "--output=own"]) == 0
    said = "as in the model's training: input_length=2 num_frames=4 shares=[0.5, 0.1, 0.4] tile=16\n"
    assert said in capsys.readouterr().out
    record = json.loads((tmp_path / "own" / "evaluation.json").read_text())
    assert (record["times"], record["sequences"]) == ([5, 10], 13)
    assert main([*command, "--output=more", "--options", "num_frames=3", "tile=null"]) == 0
    assert "training: input_length=2 shares=[0.5, 0.1, 0.4]\n" in capsys.readouterr().out
    record = json.loads((tmp_path / "more" / "evaluation.json").read_text())
    assert (record["times"], record["sequences"]) == ([5], 14)


def test_options_as_trained(make_checkpoint, tmp_path):
    def opened(name, source, options, **given):
        checkpoint = make_checkpoint(
            dataset={"name": "radar" if name == "radar" else "moving-mnist"},
            input_length=2,
            num_frames=4,
            provenance={"recipe": {"data": {"options": options}}},
        )
        lines = []
        return open_as_trained(checkpoint, name, source, say=lines.append, **given), lines

    storm, _ = WRITERS["radar"](tmp_path / "storm")
    own = {"tile": 8, "augment": True, "shares": [0.5, 0.1, 0.4]}
    sequences, lines = opened("radar", storm, own)
    assert (sequences.grid, sequences.num_frames) == ((8, 8), 4)
    assert lines == ["as in the model's training: input_length=2 num_frames=4 shares=[0.5, 0.1, 0.4] tile=8"]
    # Who divides the time another way means that way alone.
    dates = {"validation_from": "2019-06-10T01:00", "test_from": "2019-06-10T01:00"}
    sequences, lines = opened("radar", storm, own, tile=None, **dates)
    assert (sequences.label(0), sequences.grid) == ("2019-06-10 01:00:00", (16, 16))
    assert lines == ["as in the model's training: input_length=2 num_frames=4"]
    sequences, _ = opened("radar", storm, dates, shares=[0.0, 0.0, 1.0])
    assert sequences.label(0) == "2019-06-10 00:00:00"

    # How much was trained on does not say how much is to be scored.
    digits, _ = write_digits(tmp_path / "digits")
    sequences, lines = opened("moving-mnist", digits, {"count": 3, "speed": "toronto"})
    assert (len(sequences), sequences.speed) == (2000, (3.6, 3.6))
    assert lines == ["as in the model's training: input_length=2 num_frames=4 speed=toronto"]
    # A file of fixed length has other options; a model of another data set has none.
    np.save(tmp_path / "mnist_test_seq.npy", np.zeros((20, 2, 32, 32), np.uint8))
    sequences, lines = opened("moving-mnist", tmp_path / "mnist_test_seq.npy", {"num_digits": 3})
    assert (sequences.input_length, sequences.num_frames) == (2, 20)
    assert lines == ["as in the model's training: input_length=2"]
    assert opened("color-moving-mnist", digits, {"num_digits": 3})[1] == []
