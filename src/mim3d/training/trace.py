"""What a computation would cost, found by running it on tensors that have shapes and no values."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_aten = torch.ops.aten


@dataclass(frozen=True)
class TracedConvolution:
    """A convolution, or its gradients, as PyTorch was asked for it."""

    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dtype: torch.dtype
    wants: tuple[bool, bool] | None
    """Which gradients, of input and of weights; None: the convolution itself."""

    @property
    def flop(self) -> int:
        """Operations of what is asked for."""
        voxels = 1
        for size, kernel, stride, padding in zip(
            self.x_shape[2:], self.weight_shape[2:], self.stride, self.padding, strict=True
        ):
            voxels *= (size + 2 * padding - kernel) // stride + 1
        passes = 1 if self.wants is None else sum(self.wants)
        return 2 * passes * self.x_shape[0] * voxels * torch.Size(self.weight_shape).numel()


class Trace(TorchDispatchMode):
    """Follows every tensor that comes and goes, and every convolution.

    Attributes
    ----------
    live_bytes, peak_bytes
        Of all tensors that are there now, and at most were at once.
    moved_bytes
        That all but convolutions read and wrote.
    convolutions
        How often each was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self.moved_bytes = 0
        self.convolutions: Counter[TracedConvolution] = Counter()
        self._flop_counter = FlopCounterMode(display=False)
        self._storages: set[int] = set()

    @property
    def flop(self) -> int:
        """Operations of convolutions and matrix products."""
        return self._flop_counter.get_total_flops()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what an operation makes."""
        if func is _aten._local_scalar_dense.default:
            # Checks of values: there are none, so all is well.
            return 1.0
        if func is _aten.mkldnn_convolution.default:
            # oneDNN itself cannot be traced; its gradients are those of any convolution.
            x, weight, bias, padding, stride, dilation, groups = args
            func, kwargs = _aten.convolution.default, None
            args = (x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups)
        result = func(*args, **(kwargs or {}))
        made = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
        for tensor in made:
            self._follow(tensor)
        if func in (_aten.convolution.default, _aten.convolution_backward.default):
            self._note_convolution(func, args)
        elif not func.is_view:
            read = [item for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)]
            self.moved_bytes += sum(tensor.nbytes for tensor in read + made)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.live_bytes -= size

    def _note_convolution(self, func: Any, args: Any) -> None:
        is_gradient = func is _aten.convolution_backward.default
        x, weight = args[1:3] if is_gradient else args[:2]
        stride, padding = args[4:6] if is_gradient else args[3:5]
        wants = (bool(args[-1][0]), bool(args[-1][1])) if is_gradient else None
        conv = TracedConvolution(
            tuple(x.shape), tuple(weight.shape), tuple(stride), tuple(padding), x.dtype, wants
        )
        self.convolutions[conv] += 1


@contextmanager
def tracing() -> Iterator[Trace]:
    """Trace what is computed inside the block, without values; networks are made inside too."""
    trace = Trace()
    # Compiled functions would try to compile for tensors that are not there.
    with torch.compiler.set_stance("force_eager"), FakeTensorMode(), trace._flop_counter, trace:
        yield trace
