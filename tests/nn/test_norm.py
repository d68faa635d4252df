import pytest
import torch

from mim3d.nn import TensorLayerNorm


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_mean_and_variance_are_over_channels_and_space_of_each_sample(axes):
    x = 3 + 5 * torch.randn(4, 6, *(7, 5, 3)[:axes], dtype=torch.float64)
    y = TensorLayerNorm(axes, 6).double()(x).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(4, dtype=torch.float64), atol=1e-5, rtol=0)


def test_scale_and_shift_are_per_channel():
    norm = TensorLayerNorm(1, 2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 0.0]))
        norm.bias.copy_(torch.tensor([0.0, 7.0]))
    y = norm(torch.tensor([[[1.0, -1.0], [1.0, -1.0]]]))
    torch.testing.assert_close(y, torch.tensor([[[2.0, -2.0], [7.0, 7.0]]]), atol=1e-4, rtol=0)


def test_uniform_field_stays_finite():
    y = TensorLayerNorm(3, 2)(torch.full((1, 2, 4, 4, 4), 5.0))
    torch.testing.assert_close(y, torch.zeros(1, 2, 4, 4, 4), atol=1e-3, rtol=0)


def test_half_precision_is_normalised_in_float32():
    x = (100 + torch.randn(2, 4, 8, 8)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = TensorLayerNorm(2, 4)(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, TensorLayerNorm(2, 4)(x.float()))
