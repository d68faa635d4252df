import math

import pytest
import torch
from torch.nn import functional

from mim3d.nn import ConvNd, set_channels_last, set_exact_sums

REFERENCES = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_odd_kernels_are_centred(axes, kernel):
    conv = ConvNd(axes, 2, 3, kernel)
    x = torch.randn(2, 2, *(6, 5, 4)[:axes])
    expected = REFERENCES[axes](x, conv.weight, conv.bias, padding=kernel // 2)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(("axes", "last"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_what_a_convolution_makes_lies_in_memory_as_its_weights_do(axes, last):
    conv = ConvNd(axes, 3, 4, 3)
    x = torch.randn(2, 3, *(6, 5, 4)[:axes])
    expected = conv(x)
    assert expected.is_contiguous()
    set_channels_last(conv, True)
    assert conv(x).is_contiguous(memory_format=last)
    torch.testing.assert_close(conv(x), expected)
    set_channels_last(conv, False)
    assert conv(x).is_contiguous()


def test_one_axis_has_one_memory_format():
    conv = ConvNd(1, 3, 4, 3)
    set_channels_last(conv, True)
    assert conv.weight.is_contiguous()


def test_even_kernels_pad_one_more_at_the_end():
    conv = ConvNd(1, 1, 1, 2, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[1.0, 10.0]]]))
    torch.testing.assert_close(conv(torch.tensor([[[1.0, 2.0, 3.0]]])), torch.tensor([[[21.0, 32.0, 3.0]]]))


def test_stride_divides_the_grid():
    assert ConvNd(3, 1, 4, 3, stride=2)(torch.zeros(1, 1, 8, 6, 4)).shape == (1, 4, 4, 3, 2)


def test_weights_start_within_the_originals_bound_and_biases_at_zero():
    conv = ConvNd(3, 8, 32, 5)
    bound = math.sqrt(6 / 40)
    assert 0.99 * bound < conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert conv.bias is not None
    assert not conv.bias.any()
    assert ConvNd(2, 1, 1, 3, bias=False).bias is None


def test_exact_sums_are_closer_to_float64():
    torch.manual_seed(0)
    conv = ConvNd(3, 16, 16, 5)
    x = torch.randn(1, 16, 8, 8, 8)
    exact = functional.conv3d(x.double(), conv.weight.double(), padding=2)
    with torch.no_grad():
        fast = (conv(x) - exact).abs().max()
        set_exact_sums(conv, True)
        assert conv(x).dtype == torch.float32
        assert (conv(x) - exact).abs().max() < 0.5 * fast


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_sample_is_convolved_as_any(axes, stride):
    conv = ConvNd(axes, 4, 6, 3, stride=stride)
    x = torch.randn(1, 4, *(8, 6, 4)[:axes], requires_grad=True)
    expected = REFERENCES[axes](x, conv.weight, conv.bias, stride, padding=1)
    found = conv(x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((found * weights).sum(), (x, conv.weight)),
        torch.autograd.grad((expected * weights).sum(), (x, conv.weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 1, 1, 3), "num_axes must be 1, 2 or 3, found 4"),
        ((2, 0, 1, 3), "in_channels must be at least 1, found 0"),
        ((2, 1, 0, 3), "out_channels must be at least 1, found 0"),
        ((2, 1, 1, 0), "kernel_size must be at least 1, found 0"),
    ],
)
def test_sizes_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvNd(*arguments)
