import numpy as np
import pytest
import torch

from mim3d.supernova import native
from mim3d.supernova.analytic import SOD_LEFT, SOD_RIGHT, GasProfile, GasState, riemann
from mim3d.supernova.hydrodynamics import (
    Boundary,
    advance,
    signal_speed,
    to_conserved,
    to_primitive,
)

GAMMA = torch.tensor(5 / 3)


@pytest.fixture(autouse=True, params=["native", "tensors"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds for the C functions, and for what stands in for them."""
    if request.param == "tensors":
        monkeypatch.setattr(native, "takes", lambda gas: False)
    elif not native.takes(torch.zeros(1)):
        pytest.skip("no C compiler")


def run(
    conserved: torch.Tensor,
    duration: float,
    width: float,
    boundary: Boundary,
    gamma: torch.Tensor = GAMMA,
) -> torch.Tensor:
    now, reverse = 0.0, False
    while now < duration * (1 - 1e-9):
        step = min(0.8 * width / float(signal_speed(conserved, gamma).max()), duration - now)
        steps = torch.full((len(conserved),), step)
        conserved = advance(conserved, steps, width, gamma, boundary, reverse=reverse)
        now, reverse = now + step, not reverse
    return conserved


def tube(
    num_cells: int, duration: float, left: GasState, right: GasState, gamma: float, axis: int = 0
) -> tuple[GasProfile, GasProfile]:
    """Numerical and exact solution of a shock tube of length 1 along one axis of the grid."""
    place = (torch.arange(num_cells) + 0.5) / num_cells - 0.5
    primitive = torch.zeros(1, 5, num_cells, 4, 4)
    for variable, (a, b) in enumerate(zip(left, right, strict=True)):
        row = torch.where(place < 0, a, b).view(-1, 1, 1)
        primitive[0, {0: 0, 1: 1 + axis, 2: 4}[variable]] = row
    conserved = to_conserved(primitive.movedim(2, 2 + axis), gamma)
    conserved = run(conserved, duration, 1 / num_cells, "open", torch.tensor(gamma))
    line = to_primitive(conserved, gamma).movedim(2 + axis, 2)[0, :, :, 1, 1].double().numpy()
    numerical = GasProfile(line[0], line[1 + axis], line[4])
    return numerical, riemann(left, right, place.double().numpy() / duration, gamma)


def mean_error(numerical: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(numerical - exact).mean())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sod_tube(axis: int) -> None:
    """Mean errors on 200 cells are some 0.3 %, and the same along every axis."""
    numerical, exact = tube(200, 0.2, SOD_LEFT, SOD_RIGHT, 1.4, axis)
    assert mean_error(numerical.density, exact.density) < 0.003
    assert mean_error(numerical.velocity, exact.velocity) < 0.005
    assert mean_error(numerical.pressure, exact.pressure) < 0.002


def test_sod_tube_converges() -> None:
    """As first order, the best that there is for shocks."""
    errors = [
        mean_error(*(solution.pressure for solution in tube(cells, 0.2, SOD_LEFT, SOD_RIGHT, 1.4)))
        for cells in (50, 100, 200)
    ]
    assert errors[1] / errors[0] < 0.6
    assert errors[2] / errors[1] < 0.6


def test_blast_in_a_tube() -> None:
    """Pressures of 1000 and 0.01: Toro 2009, test 3."""
    numerical, exact = tube(200, 0.012, GasState(1, 0, 1000.0), GasState(1, 0, 0.01), 1.4)
    assert mean_error(numerical.density, exact.density) < 0.09
    assert mean_error(numerical.velocity, exact.velocity) < 0.015 * exact.velocity.max()
    assert mean_error(numerical.pressure, exact.pressure) < 0.005 * exact.pressure.max()


def test_two_rarefactions_keep_positivity() -> None:
    """Gas torn apart until almost a vacuum is left: Toro 2009, test 2."""
    numerical, exact = tube(200, 0.15, GasState(1, -2.0, 0.4), GasState(1, 2.0, 0.4), 1.4)
    assert numerical.density.min() > 0
    assert numerical.pressure.min() > 0
    assert mean_error(numerical.density, exact.density) < 0.005


def test_a_smooth_wave_converges_faster_than_first_order() -> None:
    def error(num_cells: int) -> float:
        place = (torch.arange(num_cells) + 0.5) / num_cells
        primitive = torch.ones(1, 5, num_cells, 4, 4)
        primitive[:, 0] = (1 + 0.3 * torch.sin(2 * torch.pi * place)).view(-1, 1, 1)
        primitive[:, 2:4] = 0
        # Once around the box: the wave is back where it was.
        after = to_primitive(run(to_conserved(primitive, GAMMA), 1.0, 1 / num_cells, "periodic"), GAMMA)
        return float((after[:, 0] - primitive[:, 0]).abs().mean())

    coarse, fine = error(32), error(64)
    assert coarse < 0.008
    assert fine < coarse / 3


def random_gas(seed: int, mach: float = 5.0, grid: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    primitive = torch.empty(2, 5, grid, grid, grid)
    primitive[:, 0] = torch.exp(torch.randn(2, grid, grid, grid, generator=generator))
    primitive[:, 1:4] = mach * torch.randn(2, 3, grid, grid, grid, generator=generator)
    primitive[:, 4] = primitive[:, 0] * torch.exp(0.5 * torch.randn(2, grid, grid, grid, generator=generator))
    return to_conserved(primitive, GAMMA)


@pytest.mark.parametrize("mach", [1.0, 10.0, 100.0])
def test_periodic_boxes_keep_mass_momentum_and_energy(mach: float) -> None:
    """Unresolved noise, the worst there is, up to Mach 100: nothing is lost and all stays positive."""
    before = random_gas(3, mach)
    after = run(before, 0.3 / mach, 1 / 12, "periodic")
    sums = [values.double().sum(dim=(2, 3, 4)) for values in (before, after)]
    torch.testing.assert_close(sums[1][:, 0], sums[0][:, 0], rtol=1e-6, atol=0)
    torch.testing.assert_close(sums[1][:, 4], sums[0][:, 4], rtol=1e-5, atol=0)
    scale = before[:, 1:4].abs().double().sum(dim=(2, 3, 4))
    assert torch.all((sums[1][:, 1:4] - sums[0][:, 1:4]).abs() < 1e-6 * scale)
    primitive = to_primitive(after, GAMMA)
    assert primitive[:, 0].min() > 0
    assert primitive[:, 4].min() > 0


def test_uniform_flow_stays_uniform_through_open_sides() -> None:
    primitive = torch.tensor([1.0, 3.0, -2.0, 0.5, 0.7]).view(1, 5, 1, 1, 1).expand(1, 5, 8, 9, 10)
    after = to_primitive(run(to_conserved(primitive, GAMMA), 1.0, 1 / 8, "open"), GAMMA)
    torch.testing.assert_close(after, primitive.clone(), rtol=1e-5, atol=1e-5)


def test_gas_leaves_through_open_sides() -> None:
    """A hot ball at Mach > 1 flies out and leaves what it met behind, without an echo."""
    primitive = torch.zeros(1, 5, 16, 16, 16)
    primitive[:, 0], primitive[:, 4] = 1.0, 0.6
    primitive[:, 0, 6:10, 6:10, 6:10] = 10.0
    primitive[:, 1] = 4.0
    after = to_primitive(run(to_conserved(primitive, GAMMA), 1.0, 1 / 16, "open"), GAMMA)
    torch.testing.assert_close(after[:, 0], torch.ones(1, 16, 16, 16), rtol=0.03, atol=0)


def test_each_cloud_of_a_batch_is_alone() -> None:
    both = random_gas(7)
    step = 0.5 / 12 / signal_speed(both, GAMMA)
    together = advance(both, step, 1 / 12, GAMMA, "open")
    alone = advance(both[1:], step[1:], 1 / 12, GAMMA, "open")
    torch.testing.assert_close(together[1:], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("boundary", ["open", "periodic"])
@pytest.mark.parametrize("mach", [2.0, 100.0])
def test_backwards_through_the_axes_is_forwards_through_swapped_ones(mach: float, boundary: Boundary) -> None:
    """At Mach 100 many cells would lose positivity."""

    def swapped(conserved: torch.Tensor) -> torch.Tensor:
        return conserved[:, [0, 3, 2, 1, 4]].transpose(2, 4)

    gas = random_gas(5, mach)[:, :, :, :10, :7]
    step = 0.8 / 12 / signal_speed(gas, GAMMA)
    forwards = advance(gas, step, 1 / 12, GAMMA, boundary)
    backwards = advance(swapped(gas), step, 1 / 12, GAMMA, boundary, reverse=True)
    scale = forwards.abs().amax(dim=(0, 2, 3, 4)).view(-1, 1, 1, 1)
    torch.testing.assert_close(swapped(backwards) / scale, forwards / scale, rtol=0, atol=1e-4)


def test_primitive_and_conserved_are_inverse() -> None:
    conserved = random_gas(1)
    torch.testing.assert_close(
        to_conserved(to_primitive(conserved, GAMMA), GAMMA), conserved, rtol=1e-4, atol=1e-4
    )


def test_signal_speed_of_moving_gas() -> None:
    primitive = torch.tensor([2.0, 3.0, -7.0, 1.0, 1.2]).view(1, 5, 1, 1, 1).expand(1, 5, 4, 4, 4)
    expected = 7.0 + (5 / 3 * 1.2 / 2.0) ** 0.5
    assert float(signal_speed(to_conserved(primitive, GAMMA), GAMMA)) == pytest.approx(expected, rel=1e-5)


def test_gas_that_is_no_longer_finite_has_no_signal_speed() -> None:
    gas = random_gas(1)
    gas[1, 4, 3, 2, 1] = torch.nan
    speeds = signal_speed(gas, GAMMA)
    assert speeds.isfinite().tolist() == [True, False]
