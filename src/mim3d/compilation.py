"""`torch.compile` where a C++ compiler works, the plain function where none does."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from mim3d.machine import threads

_CELLS_PER_THREAD = 2**16


class Compiled:
    """A function of tensors that is compiled when it is first called.

    Where compiling fails (no C++ compiler, no Python headers), all such functions run as they are from then
    on, and a warning says so once. `MIM3D_COMPILE=0` in the environment leaves them as they are, silently.

    Parameters
    ----------
    function
        What to compile; its tensors' shapes are taken as fixed.
    """

    _is_possible = os.environ.get("MIM3D_COMPILE", "1") != "0"
    _is_wanted = True

    def __init__(self, function: Callable[..., Any]) -> None:
        self._plain = function
        functools.update_wrapper(self, function)

    @functools.cached_property
    def _fast(self) -> Callable[..., Any]:
        with warnings.catch_warnings():
            # PyTorch's own imports use what it deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.compile(self._plain, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        if not (Compiled._is_possible and Compiled._is_wanted):
            return self._plain(*arguments)
        try:
            return self._fast(*arguments)
        except RuntimeError as error:
            if not _is_compilers(error):
                raise
            Compiled._is_possible = False
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"the gas solver runs uncompiled, about 4 times slower, because compiling failed ({reason}); "
                "a C++ compiler (g++ or clang++) is needed, and MIM3D_COMPILE=0 silences this",
                RuntimeWarning,
                stacklevel=2,
            )
            return self._plain(*arguments)


@contextlib.contextmanager
def uncompiled(num_cells: int) -> Iterator[None]:
    """Leave functions as they are within: a few calls take less time than compiling does.

    Hundreds of operations take the place of one compiled loop. They run on no more threads than a field of
    `num_cells` gives work to: at 32^3 cells a second thread brings nothing, and where other programs want the
    cores its waiting costs ten times the work.
    """
    before, Compiled._is_wanted = Compiled._is_wanted, False
    try:
        with threads(max(1, min(torch.get_num_threads(), num_cells // _CELLS_PER_THREAD))):
            yield
    finally:
        Compiled._is_wanted = before


def _is_compilers(error: RuntimeError) -> bool:
    """Tell whether an error is about compiling, not about the function."""
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import InductorError

    return isinstance(error, BackendCompilerFailed | InductorError)
