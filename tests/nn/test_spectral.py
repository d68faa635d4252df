import itertools
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mim3d.machine import threads
from mim3d.nn import ConvNd, build, spectral
from mim3d.nn.spectral import _convolve, _weight_gradient

CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}

compiled = pytest.mark.skipif(spectral._functions() is None, reason="no C compiler")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(x, weight, bias=None):
    bias = None if bias is None else bias.double()
    convolve = CONVOLUTIONS[x.ndim - 2]
    return convolve(x.double(), weight.double(), bias, padding=weight.shape[-1] // 2)


def exact_weight_gradient(x, gradient, shape):
    weight = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    exact(x, weight).backward(gradient.double())
    return weight.grad


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@compiled
@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    grid=st.one_of(st.tuples(*[st.integers(1, 21)] * 2), st.tuples(*[st.integers(1, 13)] * 3)),
    kernel=st.sampled_from([1, 3, 5, 7, 11]),
    count=st.integers(1, 5),
)
def test_any_sizes_give_what_a_sum_over_voxels_gives(batch, channels, grid, kernel, count):
    x = random(batch, channels[0], *grid)
    weight = random(channels[1], channels[0], *[kernel] * len(grid), seed=1)
    bias = random(channels[1], seed=2)
    expected = exact(x, weight, bias)
    gradient = random(*expected.shape, seed=3)
    with threads(count):
        result = _convolve(x, weight, bias)
        to_weight = _weight_gradient(x, gradient, weight.shape)
    scale = float(expected.abs().max())
    torch.testing.assert_close(result, expected.float(), rtol=0, atol=3e-6 * scale)
    expected = exact_weight_gradient(x, gradient, weight.shape)
    torch.testing.assert_close(to_weight, expected.float(), rtol=0, atol=3e-6 * float(expected.abs().max()))


@compiled
def test_more_threads_than_rows_of_channels_change_nothing(monkeypatch):
    monkeypatch.setattr(spectral, "_PRODUCTS_PER_THREAD", 1)
    x, weight = random(2, 40, 20, 20, 20), random(5, 40, 5, 5, 5, seed=1)
    gradient = random(2, 5, 20, 20, 20, seed=2)
    found = {}
    for count in (1, 7):
        with threads(count):
            found[count] = _convolve(x, weight, None), _weight_gradient(x, gradient, weight.shape)
    for one, seven in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, seven, rtol=0, atol=0)


@compiled
def test_rounding_is_a_tenth_of_that_of_a_sum_over_voxels():
    x, weight = random(1, 32, 16, 16, 16), random(8, 32, 5, 5, 5, seed=1)
    expected = exact(x, weight)
    directly = torch.mkldnn_convolution(x, weight, None, [2] * 3, [1] * 3, [1] * 3, 1)
    assert error(_convolve(x, weight, None), expected) < 0.2 * error(directly, expected)


@compiled
@pytest.mark.parametrize(("axes", "grid", "kernel"), [(3, 16, 5), (3, 16, 3), (2, 32, 5)])
def test_gradients_of_a_layer(axes, grid, kernel, monkeypatch):
    used = []
    for name in ("_convolve", "_weight_gradient"):
        function = getattr(spectral, name)
        monkeypatch.setattr(
            spectral, name, lambda *arguments, n=name, f=function: used.append(n) or f(*arguments)
        )
    conv = ConvNd(axes, 32, 32, kernel)
    x = random(8, 32, *[grid] * axes).requires_grad_()
    weights = random(*conv(x).shape, seed=1)
    (conv(x) * weights).sum().backward()
    twin = ConvNd(axes, 32, 32, kernel).double()
    twin.load_state_dict(conv.state_dict())
    y = x.detach().double().requires_grad_()
    (twin(y) * weights).sum().backward()
    assert error(x.grad, y.grad) < 1e-6
    assert error(conv.weight.grad, twin.weight.grad) < 1e-6
    assert error(conv.bias.grad, twin.bias.grad) < 1e-6
    # Kernels of 3^3 are convolved directly, but for the gradient of the weights.
    assert set(used) == ({"_convolve", "_weight_gradient"} if kernel == 5 else {"_weight_gradient"})


@compiled
def test_gradients_of_gradients():
    conv = ConvNd(3, 32, 32, 5)
    x = random(1, 32, 16, 16, 16).requires_grad_()
    (slope,) = torch.autograd.grad(conv(x).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    twin = ConvNd(3, 32, 32, 5).double()
    twin.load_state_dict(conv.state_dict())
    y = x.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(twin(y).square().sum(), y, create_graph=True)
    slope.square().sum().backward()
    assert error(conv.weight.grad, twin.weight.grad) < 1e-5
    assert error(x.grad, y.grad) < 1e-5


@compiled
def test_only_what_is_asked_for_is_computed(monkeypatch):
    monkeypatch.setattr(spectral, "_weight_gradient", pytest.fail)
    conv = ConvNd(3, 32, 32, 5).requires_grad_(False)
    x = random(1, 32, 16, 16, 16).requires_grad_()
    conv(x).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is None


@compiled
def test_what_is_not_taken():
    x, weight = random(1, 32, 16, 16, 16), random(32, 32, 5, 5, 5)
    assert spectral.takes(x, weight, 1)
    assert not spectral.takes(x, weight, 2)
    assert not spectral.takes(x.double(), weight.double(), 1)
    assert not spectral.takes(x, weight.contiguous(memory_format=torch.channels_last_3d), 1)
    assert not spectral.takes(x, random(32, 32, 4, 4, 4), 1)
    assert not spectral.takes(x, random(32, 32, 1, 1, 1), 1)
    assert not spectral.takes(x[:, :1], random(1, 1, 5, 5, 5), 1)
    assert not spectral.takes(x.to("meta"), weight.to("meta"), 1)


@compiled
def test_a_view_is_taken():
    x, weight = random(16, 16, 16, 32).movedim(-1, 0)[None], random(32, 32, 5, 5, 5)
    torch.testing.assert_close(_convolve(x, weight, None), exact(x, weight).float(), rtol=1e-5, atol=1e-4)


@compiled
def test_all_24_rotations_and_mirrors_go_with_the_convolution():
    x, weight = random(1, 8, 16, 16, 16), random(8, 8, 5, 5, 5, seed=1)
    result = _convolve(x, weight, None)
    for order, flips in itertools.product(itertools.permutations((2, 3, 4)), [(), (2,), (2, 3), (2, 3, 4)]):
        turned = _convolve(*(t.permute(0, 1, *order).flip(flips) for t in (x, weight)), None)
        torch.testing.assert_close(turned, result.permute(0, 1, *order).flip(flips), rtol=0, atol=2e-4)


@compiled
def test_what_is_not_a_number_is_not_hidden():
    x, weight = random(1, 32, 16, 16, 16), random(32, 32, 5, 5, 5)
    x[0, 3, 8, 8, 8] = torch.nan
    assert _convolve(x, weight, None)[0, :, 6:11, 6:11, 6:11].isnan().all()


@compiled
def test_without_memory_it_says_so():
    code = """
import resource, torch
from mim3d.nn.spectral import _convolve
x, weight = torch.zeros(1, 32, 16, 16, 16), torch.zeros(32, 32, 5, 5, 5)
_convolve(x, weight, None)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**20, held + 2**20))
x = x.expand(8, -1, -1, -1, -1)
try:
    for _ in range(100):
        kept = _convolve(x, weight, None)
except (MemoryError, RuntimeError) as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("MemoryError", "RuntimeError")


@compiled
def test_a_network_forecasts_the_same_with_and_without(monkeypatch):
    arguments = {
        "in_channels": 1,
        "hidden_channels": [16, 16],
        "kernel_size": 5,
        "num_axes": 3,
        "grid": [16] * 3,
    }
    network = build("mim", arguments)
    frames = random(1, 2, 1, 16, 16, 16)
    with torch.inference_mode():
        fast = network.forecast(frames, 6)
        monkeypatch.setattr(spectral, "takes", lambda *_: False)
        plain = network.forecast(frames, 6)
    assert not torch.equal(fast, plain)
    assert error(fast, plain) < 1e-4
