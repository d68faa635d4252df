"""Every network trains from a recipe, and its checkpoint forecasts."""

import importlib.util
from pathlib import Path

import pytest
import torch

from mim3d import checkpoint as checkpoints
from mim3d.errors import UserError
from mim3d.nn import NETWORKS, ForecastNetwork
from mim3d.training import ForecastDataModule, Recipe, train
from mim3d.training.plan import plan_training
from mim3d.training.run import build_network

SETTINGS = {
    "mim-star": "{hidden_channels: [4, 4], kernel_size: 3, patch_size: 2, peephole: channel}",
    "mim": "{hidden_channels: [4, 4], kernel_size: 3, patch_size: 2, ablation: without-mim-n}",
    "bundled-mim": "{frames_per_step: 2, hidden_channels: [4, 4], encoder_channels: [4], peephole: none}",
    "convlstm": "{hidden_channels: [4, 6], kernel_size: 3, patch_size: 2, residual: true}",
    "predrnn": "{hidden_channels: [4, 4], kernel_size: 3, patch_size: 2, layer_norm: false}",
    "unet": "{hidden_channels: [4, 8]}",
    "fno": "{hidden_channels: 4, modes: 4, layers: 2}",
}
needs_neuraloperator = pytest.mark.skipif(
    importlib.util.find_spec("neuralop") is None, reason="needs the extra fno"
)


def untrained(recipe: Recipe) -> ForecastNetwork:
    data = ForecastDataModule(recipe)
    return build_network(data.recipe, len(data.training.channels), data.training.grid, len(data.static))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_neuraloperator if name == "fno" else ()) for name in SETTINGS]
)
def test_two_steps_from_a_recipe(recipe, tmp_path: Path, name):
    flags = [f"--network.name={name}", f"--network.settings={SETTINGS[name]}", "--data.input_length=2"]
    settings = recipe(*flags, "--training.steps=2", "--training.validate_every=2", "--sampling.start=0")
    network = untrained(settings)
    path = train(settings, tmp_path / "out")
    stored = checkpoints.read(path)
    assert stored.network == name
    trained = stored.build_network()
    assert type(trained) is NETWORKS[name]
    assert trained.settings == network.settings
    before, after = network.state_dict(), trained.state_dict()
    assert sum(not torch.equal(value, after[key]) for key, value in before.items()) > len(before) / 2
    with torch.no_grad():
        assert torch.isfinite(trained.forecast(torch.rand(1, 2, 3, 8, 8, 8), 2)).all()


def test_unet_takes_its_lengths_from_the_data_and_no_sampling(recipe, tmp_path: Path):
    flags = ["--network.name=unet", "--network.settings={hidden_channels: [4, 8]}", "--data.input_length=3"]
    settings = recipe(*flags, "--training.steps=2")
    network = untrained(settings)
    assert (network.settings["input_length"], network.settings["output_length"]) == (3, 1)
    fixed = recipe("--network.name=unet", "--network.settings={output_length: 3}")
    with pytest.raises(UserError, match="output_length follows from the data"):
        untrained(fixed)
    flags[2] = "--data.input_length=2"
    sampled = recipe(*flags, "--training.steps=2", "--sampling.start=1", "--sampling.stop=9")
    with pytest.raises(UserError, match=r"set sampling\.start to 0"):
        train(sampled, tmp_path / "out")


@needs_neuraloperator
def test_fno_is_planned(recipe):
    settings = recipe("--network.name=fno", f"--network.settings={SETTINGS['fno']}", "--sampling.start=0")
    planned = plan_training(settings)
    parameters = list(untrained(settings).parameters())
    assert planned.num_weights == sum(parameter.numel() for parameter in parameters)
    assert planned.memory.weights == sum(parameter.nbytes for parameter in parameters)
    assert planned.memory.step > planned.memory.activations > 0
