import subprocess
import sys
from pathlib import Path

import pytest

from mim3d import nn
from mim3d.errors import UserError
from mim3d.training import Recipe, load_recipe, packaged_recipes
from mim3d.training.recipe import write_recipe


def test_packaged_recipes_are_all_readable():
    assert {"paper", "sn32", "sn32-density", "tiny"} <= set(packaged_recipes())
    for name in packaged_recipes():
        assert load_recipe(name).training.steps > 0


def test_paper_recipe_is_the_original_programs():
    recipe = load_recipe("paper")
    assert recipe.network.settings["kernel_size"] == 5
    assert recipe.optimizer.name == "original-adam"
    assert recipe.optimizer.betas == (0.95, 0.9995)
    assert (recipe.sampling.start, recipe.sampling.rate, recipe.sampling.stop) == (1.0, 2e-5, 50_000)
    assert (recipe.data.frames, recipe.data.input_length) == (20, 1)
    given = {"in_channels": 1, "num_axes": 3, "grid": (32, 32, 32)}
    network = nn.build(recipe.network.name, {**recipe.network.settings, **given})
    assert sum(weight.numel() for weight in network.parameters()) == 30_299_649


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("training:\n  steps: 7\n  seed: 3\n")
    recipe = load_recipe(path, ["--training.steps=9", "--network.settings.hidden_channels=[4, 4]"])
    assert (recipe.training.steps, recipe.training.seed) == (9, 3)
    assert recipe.training.save_every == Recipe().training.save_every
    assert recipe.network.settings == {"hidden_channels": [4, 4]}


def test_written_recipe_reads_back_the_same(tmp_path: Path):
    recipe = load_recipe("paper", ["--data.folder=somewhere", "--loss.channel_weights={density: 2.0}"])
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


_GUIDED = "--network.settings={guided: true}"


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("training:\n  stepps: 3\n", [], "stepps"),
        ("traning:\n  steps: 3\n", [], "traning"),
        ("training:\n  steps: many\n", [], "training.steps"),
        ("training: [", [], "mine.yaml"),
        ("", ["--training.stepps=3"], "stepps"),
        ("", ["--loss.kind=cubed"], "loss.kind"),
        ("", ["--data.frames=1"], "data.frames"),
        ("", ["--data.input_length=20"], "nothing left to forecast"),
        ("", ["--training.average=1.5"], "training.average"),
        ("", ["--training.accumulate=3"], "equal parts"),
        ("", ["--data.fields=[]"], "data.fields"),
        ("", ["--optimizer.learning_rate=-1"], "optimizer.learning_rate"),
        ("", [_GUIDED, "--data.dataset=moving-mnist"], "guided needs gas to simulate; moving-mnist has none"),
        ("", [_GUIDED, "--training.time_reversed=true"], "time_reversed has no guide"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, text: str, flags: list[str], said: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text or "{}")
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(path, flags)
    assert "\n" not in str(caught.value)


def test_no_such_recipe_lists_those_there_are():
    with pytest.raises(UserError, match=r"paper, .*sn32, sn32-density, .*tiny"):
        load_recipe("sn33")


def test_reading_a_recipe_does_not_load_pytorch():
    code = "import sys; from mim3d.training import load_recipe as l; l('tiny'); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
