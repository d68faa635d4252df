import pytest
import torch

from mim3d.errors import UserError
from mim3d.training import ForecastLoss


def frames(*values: float) -> torch.Tensor:
    """One clip of frames of one voxel, one channel."""
    return torch.tensor(values).view(1, -1, 1, 1)


NOTHING = torch.zeros(1, 0, 1)


@pytest.mark.parametrize(
    ("kind", "expected"), [("absolute", 2.0), ("squared", 5.0), ("half-sum-squared", 5.0)]
)
def test_kinds(kind, expected):
    loss = ForecastLoss(["density"], kind)
    assert loss(frames(1.0, 3.0), frames(0.0, 0.0), NOTHING).item() == expected


def test_half_sum_of_squares_is_averaged_over_clips_not_over_voxels():
    forecast, truth = torch.ones(3, 2, 1, 4, 4), torch.zeros(3, 2, 1, 4, 4)
    loss = ForecastLoss(["density"], "half-sum-squared")(forecast, truth, torch.zeros(3, 0, 4, 4))
    assert loss.item() == 0.5 * 2 * 16


def test_voxels_near_the_site_weigh_more_but_a_uniform_error_stays_the_same():
    truth, marker = torch.zeros(1, 1, 1, 4), torch.tensor([[[1.0, 0.5, 0.0, 0.0]]])
    loss = ForecastLoss(["density"], site_weight=2.0, static=["site"])
    assert loss(truth + 0.5, truth, marker).item() == pytest.approx(0.5)
    error = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    assert loss(truth + error, truth, marker).item() == pytest.approx(3 / (3 + 2 + 1 + 1))


def test_the_best_constant_for_affected_gas_is_its_probability():
    truth = torch.zeros(1, 1, 1, 10)
    truth[..., :3] = 1
    value = torch.tensor(0.9, requires_grad=True)
    optimizer = torch.optim.SGD([value], lr=0.2)
    loss = ForecastLoss(["affected"], "absolute")
    for _ in range(50):
        optimizer.zero_grad()
        loss(value.expand_as(truth), truth, truth[:, 0, :0]).backward()
        optimizer.step()
    assert value.item() == pytest.approx(0.3, abs=1e-4)


def test_weights_of_channels():
    forecast, truth = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3)
    forecast[:, :, 1] = 1.0
    loss = ForecastLoss(["density", "pressure"], channel_weights={"density": 3.0})
    assert loss(forecast, truth, truth[:, 0, :0]).item() == pytest.approx(1 / 4)
    with pytest.raises(UserError, match="densty, but the channels are: density"):
        ForecastLoss(["density"], channel_weights={"densty": 1.0})
    with pytest.raises(UserError, match="negative"):
        ForecastLoss(["density"], site_weight=-1.0)
    with pytest.raises(UserError, match="needs the channel 'site'"):
        ForecastLoss(["density"], site_weight=1.0)


@pytest.mark.parametrize("kind", ["absolute", "squared", "half-sum-squared"])
def test_where_the_truth_is_not_known_nothing_counts(kind):
    generator = torch.Generator().manual_seed(0)
    forecast, truth = (torch.rand(2, 3, 1, 4, 4, generator=generator) for _ in range(2))
    unknown = torch.zeros_like(truth, dtype=torch.bool)
    unknown[:, 1, :, :2] = True
    forecast.requires_grad_(True)
    loss = ForecastLoss(("echo",), kind)
    value = loss(forecast, truth.masked_fill(unknown, torch.nan), truth[:, 0, :0])
    value.backward()
    assert forecast.grad is not None
    assert not forecast.grad[unknown].any()
    assert forecast.grad[~unknown].all()
    difference = (forecast - truth)[~unknown].detach()
    expected = {
        "absolute": difference.abs().mean(),
        "squared": difference.square().mean(),
        "half-sum-squared": 0.25 * difference.square().sum(),
    }[kind]
    torch.testing.assert_close(value.detach(), expected)
