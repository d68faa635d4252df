import numpy as np
import pytest
import torch

from mim3d.data import Scaling
from mim3d.data.derived import site_marker
from mim3d.errors import UserError
from mim3d.metrics.gas import thermal_pressure
from mim3d.supernova.shell import radial_momentum, thermal_energy
from mim3d.training.budgets import BudgetLoss

CHANNELS = ("density", "temperature", "velocity_x", "velocity_y", "velocity_z")
SCALING = Scaling(
    CHANNELS, ("log", "log", "asinh", "asinh", "asinh"), (0.2, 3.0, 0.0, 0.0, 0.0), (0.5, 1.5, 3.0, 3.0, 3.0)
)
BOX, VOXELS = 20.0, 10
PLACE = ((BOX,) * 3, (10.6, 9.8, 10.1), (0.0,) * 3)


def gas(seed: int, frames: int = 2) -> np.ndarray:
    """Frames of channels: gas that flows outwards and differs from voxel to voxel."""
    generator = np.random.default_rng(seed)
    shape = (frames, VOXELS, VOXELS, VOXELS)
    edges = (np.arange(VOXELS) + 0.5) * BOX / VOXELS
    offset = np.stack(np.meshgrid(*(edges - site for site in PLACE[1]), indexing="ij"))
    velocity = 5 * offset / np.linalg.norm(offset, axis=0) + generator.normal(0, 1, (frames, *offset.shape))
    density, temperature = (10 ** generator.uniform(low, high, shape) for low, high in ((-1, 1), (2, 6)))
    return np.concatenate([density[:, None], temperature[:, None], velocity], axis=1).astype(np.float32)


def at_rest(frame: np.ndarray) -> np.ndarray:
    still = np.zeros_like(frame)
    still[0], still[1] = frame[0], 100.0
    return still


def marker() -> torch.Tensor:
    return torch.from_numpy(site_marker((VOXELS,) * 3, *((BOX,) * 3, PLACE[2], PLACE[1]), 30.0)[None, None])


def scaled(frames: np.ndarray) -> torch.Tensor:
    return SCALING.forward(torch.from_numpy(frames))[None]


def deviation(made: np.ndarray, true: np.ndarray, start: np.ndarray) -> float:
    loss = BudgetLoss(CHANNELS, ("site",))
    return loss(scaled(made), scaled(true), scaled(start[None])[:, 0], marker(), SCALING).item()


def test_nothing_is_off_where_all_is_right():
    true = gas(0)
    assert deviation(true, true, at_rest(true[0])) == 0


def test_deviations_are_those_of_mass_heat_and_momentum():
    true, made = gas(0, 1), gas(1, 1)
    start = at_rest(true[0])
    amounts = []
    for frame in (made[0], true[0], start):
        density, temperature, velocity = frame[0], frame[1], np.moveaxis(frame[2:], 0, -1)
        heat = thermal_energy(thermal_pressure(density, temperature), (BOX,) * 3)
        amounts.append([density.sum(), heat, radial_momentum(density, velocity, *PLACE)])
    own, real, before = np.array(amounts)
    before[0] = 0
    expected = np.abs((own - real) / (real - before)).mean()
    assert deviation(made, true, start) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(("channel", "share"), [(0, 3), (2, 1)])
def test_a_tenth_more_is_off_by_a_tenth(channel, share):
    """A tenth more gas is a tenth more mass, heat and momentum; a tenth more speed a tenth more momentum."""
    true = gas(0)
    start = at_rest(true[0])
    # Next to no heat and momentum before, so that a tenth of all is a tenth of what has come.
    start[1] = 1.0
    made = true.copy()
    made[:, 0 if channel == 0 else slice(2, 5)] *= 1.1
    assert deviation(made, true, start) == pytest.approx(0.1 * share / 3, rel=2e-3)


def test_an_error_that_sums_to_nothing_is_none():
    true = gas(0)
    true[:, 1:2] = 1e4
    swapped = true.copy()
    swapped[:, :2] = np.flip(true[:, :2], axis=2)
    assert BudgetLoss(CHANNELS)(
        scaled(swapped),
        scaled(true),
        scaled(at_rest(true[0])[None])[:, 0],
        torch.zeros(1, 0, *(VOXELS,) * 3),
        SCALING,
    ).item() == pytest.approx(0, abs=1e-5)


def test_turned_gas_is_off_by_as_much():
    true, made = gas(0), gas(1)
    start = at_rest(true[0])
    loss, site = BudgetLoss(CHANNELS, ("site",)), marker()

    def turn(values: torch.Tensor) -> torch.Tensor:
        # A quarter turn in x and y: x' = -y, y' = x.
        turned = torch.rot90(values, 1, (-3, -2))
        if values.shape[-4] > 1:
            channels = list(turned.unbind(-4))
            channels[2], channels[3] = -channels[3], channels[2]
            turned = torch.stack(channels, -4)
        return turned

    parts = [scaled(made), scaled(true), scaled(start[None])[:, 0], site]
    straight, turned = loss(*parts, SCALING), loss(*map(turn, parts), SCALING)
    assert turned.item() == pytest.approx(straight.item(), rel=1e-4)


def test_frames_with_gaps_do_not_count_and_gradients_are_finite():
    true, made = gas(0), gas(1)
    start = at_rest(true[0])
    alone = deviation(made[:1], true[:1], start)
    with_gap = scaled(true)
    with_gap[0, 1, 0, 2, 3, 4] = torch.nan
    forecast = scaled(made).requires_grad_()
    loss = BudgetLoss(CHANNELS, ("site",))(forecast, with_gap, scaled(start[None])[:, 0], marker(), SCALING)
    loss.backward()
    # Density is part of all three.
    assert loss.item() == pytest.approx(alone, rel=1e-5)
    assert forecast.grad is not None
    assert torch.isfinite(forecast.grad).all()
    assert (forecast.grad[:, 1] == 0).all()


def test_what_is_not_forecast_is_left_out():
    true, made = gas(0), gas(1)
    scaling = SCALING.select(("density",))
    loss = BudgetLoss(("density",), ())
    parts = [scaling.forward(torch.from_numpy(frames[None, :, :1])) for frames in (made, true, true[:1])]
    mass = np.abs(made[:, 0].sum(axis=(1, 2, 3)) / true[:, 0].sum(axis=(1, 2, 3)) - 1).mean()
    assert loss(*parts[:2], parts[2][:, 0], torch.zeros(1, 0), scaling).item() == pytest.approx(
        mass, rel=1e-4
    )
    with pytest.raises(UserError, match="needs the field 'density'"):
        BudgetLoss(("pressure",))
