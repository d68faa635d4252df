import copy
import math

import pytest
import torch

from mim3d import nn
from mim3d.errors import UserError
from mim3d.training import ForecastDataModule, ForecastModule
from mim3d.training.module import learning_rate_factor, moving_average
from mim3d.training.recipe import OptimizerRecipe
from mim3d.training.run import build_network


def network_for(recipe):
    clips = ForecastDataModule(recipe).training
    return build_network(recipe, len(clips.channels), clips.grid, len(clips.static_channels))


def test_learning_rate_rises_then_falls_along_a_cosine():
    factor = learning_rate_factor(OptimizerRecipe(warm_up=4, final=0.1), steps=104)
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factor(54) == pytest.approx(0.55)
    assert factor(104) == pytest.approx(0.1)
    constant = learning_rate_factor(OptimizerRecipe(warm_up=0, final=1.0), steps=10)
    assert {constant(step) for step in range(12)} == {1.0}


def test_moving_average_is_exponential_once_started():
    average, update = [torch.zeros(2)], moving_average(0.5)
    update(average, [torch.ones(2)], torch.tensor(1000))
    assert average[0].tolist() == [0.5, 0.5]
    early = [torch.zeros(1)]
    moving_average(0.999)(early, [torch.ones(1)], torch.tensor(1))
    assert early[0].item() == pytest.approx(1 - 2 / 11)


def test_average_moves_with_the_steps_and_is_what_is_evaluated(recipe):
    settings = recipe("--training.average=0.5")
    module = ForecastModule(network_for(settings), ("density", "affected"), settings)
    assert module.evaluated is not module.network
    assert not any(p.requires_grad for p in module.evaluated.parameters())
    assert module.average is not None
    module.average.update_parameters(module.network)
    before = copy.deepcopy(module.network.state_dict())
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter.add_(1.0)
    for _ in range(1, 20):
        module.average.update_parameters(module.network)
    left = math.prod(min(0.5, (1 + count) / (10 + count)) for count in range(1, 20))
    for name, value in module.evaluated.state_dict().items():
        torch.testing.assert_close(value, before[name] + 1 - left, atol=1e-5, rtol=0)
    plain = recipe("--training.average=0")
    module = ForecastModule(network_for(plain), ("density", "affected"), plain)
    assert module.evaluated is module.network


@pytest.mark.parametrize(
    ("name", "optimizer"), [("adamw", torch.optim.AdamW), ("original-adam", nn.OriginalAdam)]
)
def test_optimisers(recipe, name, optimizer):
    settings = recipe(f"--optimizer.name={name}", "--optimizer.warm_up=1")
    module = ForecastModule(network_for(settings), ("density", "affected"), settings)
    made = module.configure_optimizers()
    assert type(made["optimizer"]) is optimizer
    assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(settings.optimizer.learning_rate / 2)
    moved = {id(p) for group in made["optimizer"].param_groups for p in group["params"]}
    assert moved == {id(p) for p in module.network.parameters()}


def test_names_must_fit_the_network(recipe):
    settings = recipe()
    network = network_for(settings)
    with pytest.raises(UserError, match="forecasts 2 channels"):
        ForecastModule(network, ("density",), settings)


def test_initial_weights_follow_from_the_seed(recipe):
    def weights(seed: int) -> torch.Tensor:
        settings = recipe(f"--training.seed={seed}")
        return torch.cat([p.flatten() for p in network_for(settings).parameters()])

    before = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--network.name=gan"], "no network named 'gan'"),
        (
            ["--network.settings.hiden_channels=[4]"],
            "hiden_channels is not known; settings of 'multiscale-mim'",
        ),
        (["--network.settings.grid=[8, 8, 8]"], "grid follows from the data"),
        (["--network.settings.encoder_channels=[2, 2, 2, 2]"], "not divisible"),
    ],
)
def test_networks_that_do_not_fit(recipe, flags, said):
    settings = recipe(*flags)
    with pytest.raises(UserError, match=said):
        network_for(settings)


def test_budgets_add_to_the_loss_by_their_weight(recipe):
    """Twice the weight adds twice as much, and none adds nothing."""
    losses = []
    for weight in (0.0, 0.5, 1.0):
        settings = recipe(f"--loss.budget_weight={weight}")
        module = ForecastModule(network_for(settings), ("density", "affected"), settings, static=("site",))
        module.log = lambda *values, **options: None  # type: ignore[method-assign]
        batch = torch.rand(2, 4, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
        losses.append(module.training_step(batch, 0).item())
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-4)
    with pytest.raises(UserError, match=r"loss\.budget_weight must not be negative"):
        recipe("--loss.budget_weight=-1")
    with pytest.raises(UserError, match=r"loss\.budget_weight is for gas"):
        recipe("--data.dataset=moving-mnist", "--loss.budget_weight=1")
