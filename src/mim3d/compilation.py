"""What is compiled for this machine: C functions when first needed, functions of tensors once that pays."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import torch
from filelock import FileLock
from torch import Tensor

from mim3d.machine import threads

_PAYS_AFTER_SECONDS = 30.0
_CELLS_PER_THREAD = 2**16

_FLAGS = ("-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")

# Not every compiler has all of it: that of macOS has no OpenMP.
_FASTEST_FIRST = (("-march=native", "-fopenmp"), ("-march=native",), ())

Result = TypeVar("Result", Tensor, tuple[Tensor, ...])


def may_compile() -> bool:
    """Tell whether the user lets anything be compiled: `MIM3D_COMPILE=0` in the environment forbids it."""
    return os.environ.get("MIM3D_COMPILE", "1") != "0"


@functools.cache
def library(source: Path, consequence: str, exact: bool = True) -> ctypes.CDLL | None:
    """C functions, compiled for this machine.

    That takes a second or two, once: the library is kept in `cache_folder` for later processes.

    Parameters
    ----------
    source
        Path of a C file that needs no other and the mathematical library alone.
    consequence
        Of doing without, for the warning: what is how much slower.
    exact
        Whether every product is rounded before it is added, so that all machines compute the same.

    Returns
    -------
    ctypes.CDLL or None
        None where it cannot be compiled, which a warning says once, or must not.
    """
    if not may_compile():
        return None
    try:
        return _build(source, exact)
    except OSError as error:
        needed = f"; needed: a C compiler (cc, gcc or clang) and {cache_folder()}"
        # PyTorch would not find one either.
        _give_up(consequence, error, needed)
        return None


def _build(source: Path, exact: bool) -> ctypes.CDLL:
    """Load a library that this or another process has compiled, or compile it."""
    flags = (*_FLAGS, f"-ffp-contract={'off' if exact else 'fast'}")
    identity = "\n".join((source.read_text(encoding="utf-8"), *flags, _machine()))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    path = cache_folder() / f"{source.stem}-{digest}.so"
    if not path.is_absolute():
        raise OSError(f"{path.parent} is no folder to keep it in: set XDG_CACHE_HOME")
    # A folder that cannot be written to will do if the library is there.
    if (found := _load(path)) is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if (found := _load(path)) is not None:
            return found
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            _run_compiler(source, flags, made)
            os.replace(made, path)
        return ctypes.CDLL(str(path))


def _load(path: Path) -> ctypes.CDLL | None:
    """Load a library if it is there and whole."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _run_compiler(source: Path, flags: Sequence[str], made: Path) -> None:
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    compiler = next((name for name in names if shutil.which(name)), None)
    if compiler is None:
        raise OSError(f"no {' or '.join(names)} found")
    reason = ""
    for extra in _FASTEST_FIRST:
        command = [compiler, *flags, *extra, str(source), "-o", str(made), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        reason = done.stderr.strip() or f"{compiler} ended with {done.returncode}"
    raise OSError(reason)


class Compiled(Generic[Result]):
    """A function of tensors that PyTorch compiles when that pays, for a GPU above all.

    At first it runs as it is. Once that has taken about as long as compiling takes, it is compiled: whoever
    calls it often loses at most half of the time, whoever calls it seldom nothing. What is compiled has no
    gradients: tensors that need them go to the function as it is.

    Where compiling fails, all such functions run as they are from then on, and a warning says so once.

    Parameters
    ----------
    function
        Of tensors alone, giving a tensor or several.
    """

    _is_possible = True

    def __init__(self, function: Callable[..., Result]) -> None:
        self._plain = function
        self._program: Callable[..., Result] | None = None
        self._seconds = 0.0
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Tensor) -> Result:
        """Call the function."""
        if not (Compiled._is_possible and may_compile()) or has_gradients(*arguments):
            return self._plain(*arguments)
        if self._seconds > _PAYS_AFTER_SECONDS:
            return self._call_compiled(arguments)
        began = time.perf_counter()
        result = self._plain(*arguments)
        self._seconds += time.perf_counter() - began
        return result

    def _call_compiled(self, arguments: tuple[Tensor, ...]) -> Result:
        try:
            if self._program is not None:
                return self._program(*arguments)
            with warnings.catch_warnings():
                # PyTorch's own imports use what it deprecates.
                warnings.simplefilter("ignore")
                self._program = torch.compile(self._plain, dynamic=True)
                return self._program(*arguments)
        except (RuntimeError, OSError) as error:
            if not _is_compilers(error):
                raise
            _give_up(f"{self._plain.__name__.strip('_')} runs slower", error)
            return self._plain(*arguments)


def _give_up(consequence: str, error: Exception, needed: str = "") -> None:
    """Compile nothing more with PyTorch in this process, and say why."""
    Compiled._is_possible = False
    reason = str(error).strip().splitlines()[0]
    warnings.warn(
        f"{consequence}, because it could not be compiled ({reason}){needed}. MIM3D_COMPILE=0 silences this",
        RuntimeWarning,
        stacklevel=3,
    )


def has_gradients(*tensors: Tensor) -> bool:
    """Tell whether a tensor may be asked for its gradient."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def cache_folder() -> Path:
    """Folder of compiled libraries: `mim3d` in `XDG_CACHE_HOME`, or in `~/.cache`."""
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


@functools.cache
def _machine() -> str:
    """Tell processors apart for which other instructions are compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = [line for line in lines if line.startswith(("flags", "Features"))]
    return " ".join((platform.platform(), platform.machine(), platform.processor(), *known[:1]))


def _is_compilers(error: Exception) -> bool:
    """Tell whether an error is about compiling, not about the function."""
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

    return isinstance(
        error, BackendCompilerFailed | InductorError | CppCompileError | InvalidCxxCompiler | OSError
    )
