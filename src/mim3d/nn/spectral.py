"""Convolutions on CPUs, by Fourier transforms of tiles (`spectral.c`) where that is quicker than directly."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mim3d.compilation import library

_SOURCE = Path(__file__).with_name("spectral.c")
_WITHOUT = "convolutions with large kernels run several times slower"

_LONG, _POINTER = ctypes.c_int64, ctypes.c_void_p

# As in `spectral.c`.
_POINTS, _GROUP = 12, 8

_TRANSFORM = 20
"""What a transform of a tile costs, in products at all its wave numbers; measured with 8 to 448 channels."""

_ADVANTAGE = 1.8
"""So many times as many products make oneDNN slower: it does more of them in a second (AVX2, 2 threads)."""

_WEIGHT_ADVANTAGE_3D = 0.7
"""The same of oneDNN's gradient of the weights in three dimensions, which takes as long as 3 convolutions."""

_PRODUCTS_PER_THREAD = 2**22
"""A tenth of a millisecond's: less is not worth waking a thread for."""


def takes(x: Tensor, weight: Tensor, stride: int) -> bool:
    """Tell whether `convolve` takes a convolution and does a part of it by Fourier transforms.

    Parameters
    ----------
    x, weight, stride
        Of the convolution.
    """
    is_theirs = (
        # Not tensors without values, nor those of a graph in the making.
        type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and stride == 1
        and x.ndim in (4, 5)
        # Channels that lie side by side in memory stay so.
        and weight.is_contiguous()
        and x.numel() > 0
        and all(size % 2 and size < _POINTS for size in weight.shape[2:])
    )
    if not is_theirs:
        return False
    needs_weight = torch.is_grad_enabled() and weight.requires_grad
    is_quicker = _is_quicker(x.shape, weight.shape)
    is_quicker |= needs_weight and _is_quicker(x.shape, weight.shape, of_weight=True)
    return is_quicker and _functions() is not None


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, directly: Callable[..., Tensor]) -> Tensor:
    """Convolve; forward and both gradients each in the quicker of two ways.

    Parameters
    ----------
    x
        `(B, in_channels, *space)` that `takes` is true of.
    weight
        `(out_channels, in_channels, *kernel)`.
    bias
        `(out_channels,)` or None.
    directly
        Does the same with PyTorch.

    Returns
    -------
    Tensor
        `(B, out_channels, *space)`. Sums at the wave numbers are shorter than those over voxels: rounding is
        some 20 times less.
    """
    return _Convolution.apply(x, weight, bias, directly)


class _Convolution(torch.autograd.Function):
    """A convolution with zeros around, whose gradients are convolutions too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, directly: Callable[..., Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        if _is_quicker(x.shape, weight.shape):
            return _convolve(x, weight, bias)
        return directly(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        # Where a gradient of the gradient is wanted, PyTorch has it.
        is_last = not torch.is_grad_enabled()
        to_x = to_weight = None
        if needs_x and is_last and _is_quicker(gradient.shape, weight.transpose(0, 1).shape):
            turned = weight.transpose(0, 1).flip(*range(2, weight.ndim))
            to_x = _convolve(gradient, turned, None)
        if needs_weight and is_last and _is_quicker(x.shape, weight.shape, of_weight=True):
            to_weight = _weight_gradient(x, gradient, weight.shape)
        left = needs_x and to_x is None, needs_weight and to_weight is None
        if any(left):
            directly_x, directly_weight = _direct_gradients(x, weight, gradient, left)
            to_x, to_weight = (directly_x if left[0] else to_x), (directly_weight if left[1] else to_weight)
        to_bias = gradient.sum((0, *range(2, gradient.ndim))) if needs_bias else None
        return to_x, to_weight, to_bias, None


def _direct_gradients(
    x: Tensor, weight: Tensor, gradient: Tensor, which: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    axes = weight.ndim - 2
    padding = [size // 2 for size in weight.shape[2:]]
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        *(gradient, x, weight, None, [1] * axes, padding, [1] * axes, False, [0] * axes, 1),
        (*which, False),
    )
    return to_x, to_weight


@functools.lru_cache(maxsize=1024)
def _is_quicker(image: torch.Size, weight: torch.Size, of_weight: bool = False) -> bool:
    """Compare the products of a convolution, or of its weights' gradient, and of its Fourier transforms."""
    batch, _, *grid = image
    direct = batch * math.prod(grid) * math.prod(weight)
    needed = _WEIGHT_ADVANTAGE_3D if of_weight and len(grid) == 3 else _ADVANTAGE
    return direct > needed * _spectral_products(image, weight)


def _spectral_products(image: Sequence[int], weight: Sequence[int]) -> int:
    """Count products of real numbers at all wave numbers, and what the transforms cost in such."""
    batch, _, *grid = image
    out_channels, in_channels, *kernel = weight
    pairs = out_channels * in_channels
    tiles = batch * math.prod(
        -(-voxels // (_POINTS + 1 - size)) for voxels, size in zip(grid, kernel, strict=True)
    )
    tiles = -(-tiles // _GROUP) * _GROUP
    # A product of complex numbers is four; half of the wave numbers are conjugates of others.
    products = 4 * (_POINTS // 2 + 1) * _POINTS ** (len(grid) - 1)
    return products * (tiles * pairs + _TRANSFORM * (tiles * (in_channels + out_channels) + pairs))


@functools.cache
def _functions() -> ctypes.CDLL | None:
    loaded = library(_SOURCE, _WITHOUT, exact=False)
    if loaded is not None:
        sizes = (*(_LONG,) * 3, _LONG * 3, _LONG * 3, ctypes.c_int)
        loaded.convolve.argtypes = (*(_POINTER,) * 3, *sizes, _POINTER)
        loaded.add_weight_gradient.argtypes = (*(_POINTER,) * 2, *sizes, _POINTER)
    return loaded


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    bias = x.new_zeros(len(weight)) if bias is None else bias.contiguous()
    result = x.new_empty(len(x), len(weight), *x.shape[2:])
    _call("convolve", (x, weight, bias), x, weight.shape, result)
    return result


def _weight_gradient(x: Tensor, gradient: Tensor, shape: Sequence[int]) -> Tensor:
    x, gradient = x.contiguous(), gradient.contiguous()
    result = x.new_zeros(shape)
    _call("add_weight_gradient", (x, gradient), x, shape, result)
    return result


def _call(name: str, inputs: Sequence[Tensor], x: Tensor, weight: Sequence[int], result: Tensor) -> None:
    functions = _functions()
    if functions is None:
        raise RuntimeError("spectral.c is not compiled: ask `takes` before")
    batch, in_channels, *grid = x.shape
    out_channels, _, *kernel = weight
    # Two axes are three, of which the first has one voxel.
    flat = [1] * (3 - len(grid))
    sizes = batch, in_channels, out_channels, (_LONG * 3)(*flat, *grid), (_LONG * 3)(*flat, *kernel)
    useful = max(1, _spectral_products(x.shape, weight) // _PRODUCTS_PER_THREAD)
    pointers = (tensor.data_ptr() for tensor in inputs)
    function = getattr(functions, name)
    if not function(*pointers, *sizes, min(torch.get_num_threads(), useful), result.data_ptr()):
        raise MemoryError("no memory for the spectra of a convolution")
