"""Layer normalisation of whole fields."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.nn.precision import full_precision


class TensorLayerNorm(nn.Module):
    """Layer normalisation over channels and space together, then a scale and a shift per channel.

    Mean and population variance are taken per sample over all axes but the batch's, in float32 at least,
    also under autocast.

    Parameters
    ----------
    num_axes
        Axes of space; the arithmetic is the same for any.
    channels
        Number of channels.
    eps
        Added to the variance.

    References
    ----------
    Ba, Kiros and Hinton 2016, arXiv 1607.06450; the original MIM programs normalise every convolution so.
    """

    def __init__(self, num_axes: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_axes = num_axes
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, channels, *space)`."""
        # One group that holds all channels is exactly this normalisation. Autocast on the CPU would leave it
        # in bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            return functional.group_norm(full_precision(x), 1, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes, for `print(network)`."""
        return f"{len(self.weight)}, eps={self.eps}"
