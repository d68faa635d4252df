"""Functions of tensors, compiled for this machine once they have been called enough for it to pay."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar, cast

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mim3d.machine import threads

_PAYS_AFTER_SECONDS = 30.0
_CELLS_PER_THREAD = 2**16
_FIRST_GROWING_AXIS = 2

Result = TypeVar("Result", Tensor, tuple[Tensor, ...])


class Compiled(Generic[Result]):
    """A function of tensors that is compiled when that pays.

    At first it runs as it is. Once that has taken about as long as compiling takes, it is compiled: whoever
    calls it often loses at most half of the time, whoever calls it seldom nothing. On CPUs what is compiled
    is a library in `cache_folder`, which every later process loads at once. It has no gradients: tensors that
    need them go to the function as it is.

    Where compiling fails (no C++ compiler, no Python headers), all such functions run as they are from then
    on, and a warning says so once. `MIM3D_COMPILE=0` in the environment leaves them as they are, silently.

    Parameters
    ----------
    function
        Of tensors alone, giving a tensor or several. Batches `(B, C, *space)` among them may change their
        size in space without being compiled again.
    """

    _is_possible = os.environ.get("MIM3D_COMPILE", "1") != "0"

    def __init__(self, function: Callable[..., Result]) -> None:
        self._plain = function
        self._programs: dict[str, Callable[..., Result]] = {}
        self._seconds: dict[str, float] = {}
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Tensor) -> Result:
        """Call the function."""
        if not Compiled._is_possible or any(
            type(x) is not Tensor or (x.requires_grad and torch.is_grad_enabled()) for x in arguments
        ):
            return self._plain(*arguments)
        signature = _signature(arguments)
        program = self._programs.get(signature)
        if program is None:
            pays = self._seconds.get(signature, 0.0) > _PAYS_AFTER_SECONDS
            program = self.compile(*arguments, wait=False) if pays else self._load(signature)
        if program is not None:
            return program(*arguments)
        began = time.perf_counter()
        result = self._plain(*arguments)
        self._seconds[signature] = self._seconds.get(signature, 0.0) + time.perf_counter() - began
        return result

    def compile(self, *arguments: Tensor, wait: bool = True) -> Callable[..., Result] | None:
        """Compile for arguments like these now, unless that has been done.

        Parameters
        ----------
        arguments
            What the function is called with; the values do not matter.
        wait
            For another process that is compiling the same.

        Returns
        -------
        callable or None
            The compiled function; None where it cannot be had, or not yet.
        """
        if not Compiled._is_possible:
            return None
        signature = _signature(arguments)
        if (found := self._programs.get(signature) or self._load(signature)) is not None:
            return found
        try:
            with warnings.catch_warnings():
                # PyTorch's own imports use what it deprecates.
                warnings.simplefilter("ignore")
                if arguments[0].device.type == "cpu":
                    return self._build(signature, arguments, wait)
                # A library for a GPU takes the CUDA toolkit to link; this does not.
                self._programs[signature] = torch.compile(self._plain, dynamic=True)
                return self._programs[signature]
        except (RuntimeError, OSError) as error:
            if not _is_compilers(error):
                raise
            Compiled._is_possible = False
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"the gas solver runs uncompiled, about 3 times slower, because compiling failed ({reason}); "
                f"needed: a C++ compiler (g++, clang++) and {cache_folder()}. MIM3D_COMPILE=0 silences this",
                RuntimeWarning,
                stacklevel=3,
            )
            return None

    def _build(
        self, signature: str, arguments: tuple[Tensor, ...], wait: bool
    ) -> Callable[..., Result] | None:
        from torch._inductor import aoti_compile_and_package

        path = self._path(signature)
        if not path.is_absolute():
            raise OSError(f"{path.parent} is no folder to keep it in: set XDG_CACHE_HOME")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path.with_suffix(".lock"), timeout=-1 if wait else 0):
                if path.exists():
                    return self._load(signature)
                examples, axes = _examples(arguments)
                exported = torch.export.export(_Module(self._plain), examples, dynamic_shapes=(axes,))
                with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                    made = aoti_compile_and_package(
                        exported,
                        package_path=str(Path(folder) / path.name),
                        inductor_configs={"cpp.dynamic_threads": True},
                    )
                    os.replace(made, path)
        except Timeout:
            return None
        return self._load(signature)

    def _load(self, signature: str) -> Callable[..., Result] | None:
        """Load what this or another process has compiled."""
        path = self._path(signature)
        if not path.exists():
            return None
        # What PyTorch documents for this imports its compiler first, which takes as long as a forecast.
        loader = torch._C._aoti.AOTIModelPackageLoader  # pyright: ignore[reportAttributeAccessIssue]
        try:
            program = loader(str(path), "model", False, 1, -1)
        except RuntimeError:
            # Damaged: to be made again.
            path.unlink(missing_ok=True)
            return None

        def run(*arguments: Tensor) -> Result:
            # Programs take their arguments' layout for granted.
            results = program.run([x.contiguous() for x in arguments])
            return cast("Result", results[0] if len(results) == 1 else tuple(results))

        self._programs[signature] = run
        return run

    def _path(self, signature: str) -> Path:
        identity = "\n".join((signature, torch.__version__, _machine(), _sources(self._plain)))
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return cache_folder() / f"{self._plain.__name__.strip('_<>')}-{digest}.pt2"


class _Module(torch.nn.Module):
    def __init__(self, function: Callable[..., Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *arguments: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self._function(*arguments)


def cache_folder() -> Path:
    """Folder of compiled functions: `mim3d` in `XDG_CACHE_HOME`, or in `~/.cache`."""
    # Unlike `Path.home`, `expanduser` takes a user without a home.
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "mim3d"


@contextmanager
def few_threads(num_cells: int) -> Iterator[None]:
    """Compute on no more threads than a field of `num_cells` gives work to.

    Hundreds of small operations: at 32^3 cells a second thread brings nothing, and where other programs want
    the cores its waiting costs ten times the work.
    """
    with threads(max(1, min(torch.get_num_threads(), num_cells // _CELLS_PER_THREAD))):
        yield


def _grows(tensor: Tensor, axis: int) -> bool:
    return axis >= _FIRST_GROWING_AXIS and tensor.shape[axis] > 1


def _signature(arguments: tuple[Tensor, ...]) -> str:
    """Tell what a compiled function is compiled for."""
    return "; ".join(
        f"{x.device} {x.dtype} "
        + ",".join("n" if _grows(x, axis) else str(size) for axis, size in enumerate(x.shape))
        for x in arguments
    )


def _examples(arguments: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[dict[int, object], ...]]:
    """Return tensors whose growing axes differ in size, so that none is taken for another, and those axes."""
    examples, axes = [], []
    for tensor in arguments:
        growing = [axis for axis in range(tensor.ndim) if _grows(tensor, axis)]
        shape = [16 + 2 * axis if axis in growing else size for axis, size in enumerate(tensor.shape)]
        examples.append(torch.ones(shape, dtype=tensor.dtype, device=tensor.device))
        axes.append(dict.fromkeys(growing, torch.export.Dim.DYNAMIC))
    return tuple(examples), tuple(axes)


@functools.cache
def _machine() -> str:
    """Tell processors apart for which other instructions are compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = [line for line in lines if line.startswith(("flags", "Features"))]
    return " ".join((platform.platform(), platform.machine(), platform.processor(), *known[:1]))


@functools.cache
def _sources(function: Callable[..., object]) -> str:
    """Tell versions apart of the function and of the modules beside it, from which it may take others."""
    digest = hashlib.sha256()
    for path in sorted(Path(inspect.getfile(function)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_compilers(error: Exception) -> bool:
    """Tell whether an error is about compiling, not about the function."""
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

    return isinstance(
        error, BackendCompilerFailed | InductorError | CppCompileError | InvalidCxxCompiler | OSError
    )
