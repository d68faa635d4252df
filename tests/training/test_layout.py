"""What frames are like is told without data wherever a data set or its options say it."""

import numpy as np
import pytest

from mim3d.errors import UserError
from mim3d.training import load_recipe, packaged_recipes
from mim3d.training.layout import frame_layout
from mim3d.training.plan import plan_training

LAYOUTS = {
    # channels, grid, clips, frames, frames given
    "moving-mnist": (1, (64, 64), 10_000, 20, 10),
    "moving-fashion-mnist": (1, (64, 64), 10_000, 20, 10),
    "color-moving-mnist": (3, (64, 64), 10_000, 20, 10),
    "moving-mnist-3d": (1, (32, 32, 32), 10_000, 20, 10),
    "taxibj": (2, (32, 32), None, 8, 4),
    "human36m": (3, (128, 128), None, 8, 4),
    "human36m-small": (3, (64, 64), None, 8, 4),
    "radar-small": (1, (64, 64), None, 20, 10),
}
ASKED = {"radar": (1, (96, 128)), "paper": (1, (8, 8, 8)), "tiny": (2, (8, 8, 8))}
ASKED |= {"sn32": (6, (24,) * 3), "sn32-density": (2, (24,) * 3)}
ASKED["sn32-mim"] = (2, (24,) * 3)


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_recipe_can_be_planned(name, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    recipe = load_recipe(name)
    what = name if name in LAYOUTS else name.removesuffix("-small")
    if what == "folder":
        recipe = load_recipe(name, [f"--data.folder={write_folder(tmp_path)}"])
        expected, grid = (1, (16, 24), 7, 6, 3), None
    elif what in LAYOUTS:
        expected, grid = LAYOUTS[what], None
    else:
        channels, grid = ASKED[what]
        frames = 4 if name == "tiny" else 20
        expected = (channels, grid, None, frames, 10 if what == "radar" else 1)
    filled, layout = frame_layout(recipe, grid)
    found = (len(layout.channels), layout.grid, layout.clips, filled.data.frames, filled.data.input_length)
    assert found == expected
    # The others differ from these in numbers alone.
    if name in ("moving-mnist-small", "folder-small"):
        planned = plan_training(recipe, grid=grid, device="cuda")
        assert planned.memory.step > planned.memory.activations > planned.memory.weights > 0
        clips, repeats = expected[2], 2 if recipe.training.time_reversed else 1
        assert planned.steps_per_epoch == (clips and repeats * clips / recipe.data.batch_size)


def write_folder(folder):
    (folder / "dataset.yaml").write_text("input_length: 3\nnum_frames: 6\naxes: TYX\n")
    for number in range(10):
        np.save(folder / f"{number}.npy", np.random.default_rng(number).random((6, 16, 24)))
    return folder


@pytest.mark.parametrize(
    ("name", "options", "grid"),
    [
        ("moving-mnist", '{"size": 48}', (48, 48)),
        ("moving-mnist-3d", '{"size": 40}', (40, 40, 40)),
        ("human36m", '{"protocol": "openstl"}', (256, 256)),
        ("human36m", '{"size": 64}', (64, 64)),
        ("radar", '{"tile": 64}', (64, 64)),
        ("radar", '{"crop": [10, 20, 129, 66], "coarsen": 2}', (64, 33)),
    ],
)
def test_options_change_the_grid(name, options, grid):
    assert frame_layout(load_recipe(name, [f"--data.options={options}"]))[1].grid == grid


def test_numbers_of_frames_and_clips_are_those_of_the_recipe():
    flags = ["--data.frames=15", "--data.input_length=5", '--data.options={"count": 300}']
    recipe, layout = frame_layout(load_recipe("moving-mnist", flags))
    assert (recipe.data.frames, recipe.data.input_length, layout.clips) == (15, 5, 300)


def test_files_are_opened_where_they_are_named(tmp_path):
    recipe = load_recipe("taxibj", [f"--data.folder={tmp_path}"])
    with pytest.raises(UserError, match=r"holds no files BJ\*InOut\.h5"):
        frame_layout(recipe)


@pytest.mark.parametrize(
    ("name", "flags", "grid", "words"),
    [
        ("radar", [], None, "--data DIR, --grid HEIGHT WIDTH, or the option tile or crop"),
        ("radar", [], (8, 8, 8), "2 axes, --grid has 3"),
        ("folder", [], (8, 8), "folder needs --data DIR"),
        ("moving-mnist", [], (32, 32), "moving-mnist are 64 x 64, not 32 x 32: leave --grid out"),
        ("moving-mnist", ['--data.options={"sise": 3}'], None, "no option 'sise' for moving-mnist"),
        ("moving-mnist", ['--data.options={"size": "x"}'], None, "size is to be a whole number"),
        ("human36m", ['--data.options={"protocol": "x"}'], None, "one of mim, openstl"),
        ("human36m", ["--data.frames=9"], None, "no option 'num_frames' for human36m"),
        ("sn32", [], (0, 1, 2), "1 to 3 positive numbers"),
        ("sn32", [], None, "--data DIR, or --grid"),
    ],
)
def test_what_is_not_known_or_contradicts_is_an_error(name, flags, grid, words):
    with pytest.raises(UserError, match=words):
        frame_layout(load_recipe(name, flags), grid)
