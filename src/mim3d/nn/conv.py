"""Convolutions over any number of axes of space, alone and with layer normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.errors import UserError
from mim3d.nn import spectral
from mim3d.nn.norm import TensorLayerNorm
from mim3d.nn.precision import full_precision

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_HAS_ONEDNN = torch.backends.mkldnn.is_available()


class ConvNd(nn.Module):
    """Convolution over 1, 2 or 3 axes that keeps the grid (or divides it by `stride`).

    The padding is zeros, `kernel_size - 1` of them along every axis, the odd one at the end: TensorFlow's
    `SAME` for stride 1.

    Parameters
    ----------
    num_axes
        Axes of space, 1 to 3.
    in_channels, out_channels
        Channels before and after.
    kernel_size
        Voxels along every axis of the kernel.
    bias
        Whether a number per channel is added; it starts at zero.
    stride
        Voxels between outputs.
    bound
        Weights start uniform in `(-bound, bound)`. Left out: sqrt(6 / (in_channels + out_channels)), as in
        the original MIM programs, which leave the kernel's volume out (layer normalisation makes up for it).

    Attributes
    ----------
    weight
        `(out_channels, in_channels, *kernel)`.
    bias
        `(out_channels,)` or None.
    exact_sums
        Whether float32 convolutions are summed in float64; see `set_exact_sums`.

    Raises
    ------
    UserError
        If `num_axes` is not 1 to 3 or a size is not positive.
    """

    def __init__(
        self,
        num_axes: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        stride: int = 1,
        bound: float | None = None,
    ) -> None:
        super().__init__()
        if num_axes not in _CONVOLUTIONS:
            raise UserError(f"num_axes must be 1, 2 or 3, found {num_axes}")
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"{name} must be at least 1, found {size}")
        self.num_axes = num_axes
        self.stride = stride
        self.padding = (kernel_size - 1) // 2
        self.is_even = kernel_size % 2 == 0
        self.exact_sums = False
        self.bound = math.sqrt(6 / (in_channels + out_channels)) if bound is None else bound
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *(kernel_size,) * num_axes))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew and set the bias to zero."""
        nn.init.uniform_(self.weight, -self.bound, self.bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, in_channels, *space)` to `(B, out_channels, *space / stride)`."""
        if self.is_even:
            x = functional.pad(x, (0, 1) * self.num_axes)
        if self.exact_sums and self.weight.dtype == torch.float32:
            bias = None if self.bias is None else self.bias.double()
            return self._convolve(x.double(), self.weight.double(), bias).float()
        if _is_autocast(x) and min(x.shape[2:]) < max(self.weight.shape[2:]):
            # With a kernel larger than the grid, oneDNN's gradient of the weights in half precision holds
            # memory that nothing wrote (seen in PyTorch 2.13).
            with torch.autocast("cpu", enabled=False):
                return self._convolve(full_precision(x), self.weight, self.bias)
        return self._convolve(x, self.weight, self.bias)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _is_autocast(x) and spectral.takes(x, weight, self.stride):
            return spectral.convolve(x, weight, bias, self._convolve_directly)
        return self._convolve_directly(x, weight, bias)

    def _convolve_directly(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        is_alone = len(x) == 1 and x.device.type == "cpu"
        is_full = x.dtype == torch.float32 and not _is_autocast(x)
        if is_alone and is_full and self.num_axes > 1 and _HAS_ONEDNN:
            # PyTorch (seen in 2.13) takes its own kernels for one small sample; oneDNN's are 2 to 4 times
            # faster.
            stride, padding, dilation = ((n,) * self.num_axes for n in (self.stride, self.padding, 1))
            return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, 1)
        return _CONVOLUTIONS[self.num_axes](x, weight, bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Sizes, for `print(network)`."""
        out_channels, in_channels, *kernel = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel={tuple(kernel)}, stride={self.stride}"


def _is_autocast(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def channels_last(x: Tensor) -> Tensor:
    """Store the channels of `(B, C, *space)` side by side in memory, as convolution libraries like them.

    Convolutions and what lies between them keep it. A training step of the U-Net in bfloat16 takes 0.57 of
    the time on a CPU that multiplies it in hardware.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats.get(x.ndim, torch.contiguous_format))


def set_exact_sums(network: nn.Module, exact: bool) -> None:
    """Choose between exact and fast sums in all convolutions of a network.

    A kernel of 5^3 on 8 channels adds 1000 products. oneDNN (CPU) adds them one by one in float32, cuDNN
    (GPU) may even round the factors to 10 bits (TF32); the recurrence amplifies both. Sums in float64 keep
    a float32 network about five times closer to exact arithmetic, and take about five times as long on a CPU.
    """
    for module in network.modules():
        if isinstance(module, ConvNd):
            module.exact_sums = exact


def set_channels_last(network: nn.Module, last: bool) -> None:
    """Choose how the weights of all convolutions over two or three axes lie in memory.

    What convolutions make, and what is made of that, then lies the same way: with the channels of a voxel
    side by side, or the voxels of a channel.
    """
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    for module in network.modules():
        if isinstance(module, ConvNd) and module.num_axes in formats:
            layout = formats[module.num_axes] if last else torch.contiguous_format
            module.weight.data = module.weight.data.contiguous(memory_format=layout)


class ConvNorm(nn.Module):
    """A convolution whose output is layer-normalised, or not, and comes in full precision.

    Recurrent states are sums over many steps, so what enters them is float32 even where the convolution ran
    in bfloat16.

    Parameters
    ----------
    num_axes, in_channels, out_channels, kernel_size, bound
        As in `ConvNd`.
    layer_norm
        Whether `TensorLayerNorm` follows.
    """

    def __init__(
        self,
        num_axes: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        layer_norm: bool,
        bound: float | None = None,
    ) -> None:
        super().__init__()
        self.conv = ConvNd(num_axes, in_channels, out_channels, kernel_size, bound=bound)
        self.norm = TensorLayerNorm(num_axes, out_channels) if layer_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, in_channels, *space)`, then normalise."""
        x = self.conv(x)
        return full_precision(x) if self.norm is None else self.norm(x)


def with_fan_in(conv: ConvNd) -> ConvNd:
    """Start a convolution that no normalisation follows so that it keeps the variance (arXiv 1502.01852)."""
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return conv
