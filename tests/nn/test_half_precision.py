import pytest
import torch

from mim3d.nn import ConvNd


def leave_nan_in_freed_memory():
    blocks = [torch.full((2**k,), torch.nan) for k in range(6, 20) for _ in range(8)]
    del blocks


@pytest.mark.parametrize(("side", "kernel_size"), [(2, 3), (3, 3), (3, 5), (4, 5), (8, 3)])
def test_gradients_in_bfloat16_are_finite_and_right_also_where_the_kernel_exceeds_the_grid(side, kernel_size):
    torch.manual_seed(0)
    conv = ConvNd(3, 16, 4, kernel_size)
    x = torch.randn(2, 16, side, side, side)
    conv(x).square().mean().backward()
    exact = conv.weight.grad.clone()
    conv.zero_grad()
    leave_nan_in_freed_memory()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv(x)
    leave_nan_in_freed_memory()
    out.float().square().mean().backward()
    assert torch.linalg.norm(conv.weight.grad - exact) < 0.02 * torch.linalg.norm(exact)
