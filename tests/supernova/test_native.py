"""The C functions against the operations on tensors that they stand for."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mim3d.supernova import native
from mim3d.supernova.cooling import CoolingCurve, theta_of_temperature
from mim3d.supernova.hydrodynamics import advance, signal_speed, to_conserved, to_primitive
from mim3d.supernova.simulation import CloudSettings, evolve_step, turbulent_clouds
from mim3d.supernova.units import ADIABATIC_INDEX
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as UNIT

GAMMA = torch.tensor(ADIABATIC_INDEX)

pytestmark = pytest.mark.skipif(not native.takes(torch.zeros(1)), reason="no C compiler")


def without_them(function, *arguments, **keywords):
    """Call a function that then does without the C functions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "takes", lambda gas: False)
        return function(*arguments, **keywords)


def relative_difference(state, expected):
    """Largest difference, over the largest density, momentum density and energy density that could be."""
    mass, energy = (float(expected[:, variable].amax()) for variable in (0, 4))
    scale = torch.tensor([mass, *[(mass * energy) ** 0.5] * 3, energy]).view(-1, 1, 1, 1)
    return float(((state - expected) / scale).abs().max())


@given(
    st.tuples(*[st.integers(1, 21)] * 3),
    st.integers(2, 4),
    st.floats(0.0, 100.0),
    st.sampled_from(["open", "periodic"]),
    st.booleans(),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_a_step_through_noise_of_any_shape(grid, clouds, mach, boundary, reverse, seed):
    """At Mach 100 many cells would lose positivity; seven more cells than a vector is wide are left over."""
    if boundary == "periodic":
        grid = tuple(max(size, 3) for size in grid)
    generator = torch.Generator().manual_seed(seed)
    primitive = torch.randn(clouds, 5, *grid, generator=generator)
    primitive[:, 0] = primitive[:, 0].exp()
    primitive[:, 1:4] *= mach
    primitive[:, 4] = primitive[:, 0] * (0.5 * primitive[:, 4]).exp()
    gas = to_conserved(primitive, GAMMA)
    speed = signal_speed(gas, GAMMA)
    torch.testing.assert_close(speed, without_them(signal_speed, gas, GAMMA), rtol=1e-3, atol=0)
    # One cloud has arrived; it alone would be no test.
    step = 0.8 * 0.1 / speed * (torch.arange(clouds) > 0)
    state = advance(gas, step, 0.1, GAMMA, boundary, reverse=reverse)
    expected = without_them(advance, gas, step, 0.1, GAMMA, boundary, reverse=reverse)
    assert relative_difference(state, expected) < 1e-5
    assert torch.equal(state[0], gas[0])


@pytest.mark.parametrize("floor", [10.0, 100.0, 1e4])
def test_cooling_from_any_temperature_for_any_time(floor):
    curve = CoolingCurve(floor)
    temperatures = torch.logspace(0.5, 9.5, 40).view(1, -1, 1, 1)
    densities = torch.logspace(-4, 4, 9).view(1, 1, -1, 1)
    shape = (1, 40, 9, 3)
    primitive = torch.zeros(1, 5, *shape[1:])
    primitive[:, 0] = densities
    primitive[:, 1] = 3.0
    primitive[:, 4] = densities * theta_of_temperature(temperatures)
    gas = to_conserved(primitive, GAMMA).repeat(3, 1, 1, 1, 1)
    steps = torch.tensor([0.0, 1e-6, 0.3])
    cooled = gas.clone()
    native.radiate(cooled, steps, ADIABATIC_INDEX, UNIT / 2, curve.tables)
    assert torch.equal(cooled[:, :4], gas[:, :4])
    theta = to_primitive(gas, GAMMA)[:, 4] / gas[:, 0]
    # The density unit is passed, not assumed: half of it is twice the time.
    longer = 2 * steps.view(-1, 1, 1, 1)
    expected = curve.cool(theta.clamp(min=curve.theta_floor), gas[:, 0], longer)
    result = to_primitive(cooled, GAMMA)[:, 4] / gas[:, 0]
    torch.testing.assert_close(result, expected, rtol=2e-4, atol=0)


def test_a_step_of_a_blast():
    """Hot gas next to cold: it moves, cools and loses positivity in places."""
    curve = CoolingCurve()
    remaining = torch.tensor([0.1, 0.002], dtype=torch.float64)
    cloud = CloudSettings(grid=16, voxels=16, mach_number=30.0)
    gas = turbulent_clouds([cloud, dataclasses.replace(cloud, seed=1)])
    gas[:, 4, 6:9, 6:9, 6:9] *= 1e4
    for part in (gas, gas[..., 2:14, 1:16, 3:12]):
        state, step = evolve_step(part, remaining, 4.0, curve)
        expected, expected_step = without_them(evolve_step, part, remaining, 4.0, curve)
        torch.testing.assert_close(step, expected_step, rtol=1e-5, atol=0)
        assert relative_difference(state, expected) < 1e-4


def test_what_is_not_a_number_stays_that():
    curve = CoolingCurve()
    gas = to_conserved(torch.ones(1, 5, 4, 4, 4), GAMMA)
    gas[0, 4, 1, 2, 3] = torch.nan
    native.radiate(gas, torch.tensor([0.1]), ADIABATIC_INDEX, 0.03, curve.tables)
    assert gas[0, 4].isnan().sum() == 1
    assert advance(gas, torch.tensor([0.01]), 1.0, GAMMA, "open").isnan().any()
    with pytest.raises(RuntimeError, match="finite"):
        evolve_step(gas, torch.tensor([0.1], dtype=torch.float64), 1.0, curve)


def test_gradients_and_double_precision_are_left_to_tensors():
    gas = to_conserved(torch.ones(1, 5, 4, 4, 4), GAMMA)
    assert native.takes(gas)
    assert not native.takes(gas.double())
    wanted = gas.clone().requires_grad_()
    assert not native.takes(wanted)
    with torch.inference_mode():
        assert native.takes(wanted)
    advance(wanted, torch.tensor([0.01]), 1.0, GAMMA, "open").sum().backward()
    assert wanted.grad is not None


def test_the_threads_do_not_change_a_number(monkeypatch):
    gas = turbulent_clouds([CloudSettings(grid=16, voxels=16)])
    step = torch.tensor([0.05])
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(advance(gas, step, 4.0, GAMMA, "open"))
    assert torch.equal(*results)
