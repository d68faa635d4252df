"""What a computation would cost, found by running it on tensors that have shapes and no values."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
_CONVOLUTIONS = (_aten.convolution.default, _aten.convolution_backward.default)


class Trace(TorchDispatchMode):
    """Follows every tensor that comes and goes.

    Attributes
    ----------
    flop
        Operations of convolutions and matrix products.
    live_bytes, peak_bytes
        Of all tensors that are there now, and at most were at once.
    moved_bytes
        That all but convolutions read and wrote.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0
        self.live_bytes = 0
        self.peak_bytes = 0
        self.moved_bytes = 0
        self._storages: set[int] = set()

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
        # Not with PyTorch's FlopCounterMode: it follows modules, too, and keeps alive what is recomputed.
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flop += count(*args, **(kwargs or {}), out_val=result)
        if func not in _CONVOLUTIONS and not func.is_view:
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


@contextmanager
def tracing() -> Iterator[Trace]:
    """Trace what is computed inside the block, without values; networks are made inside too."""
    trace = Trace()
    with FakeTensorMode(), trace:
        yield trace
