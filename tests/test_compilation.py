import ctypes
import os
import subprocess
import sys
import warnings

import pytest
import torch

from mim3d import compilation
from mim3d.compilation import Compiled, cache_folder, few_threads, library

SOURCE = "#include <math.h>\ndouble twice(double x) { return 2 * fabs(x); }\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MIM3D_COMPILE", "1")
    monkeypatch.setattr(Compiled, "_is_possible", True)
    library.cache_clear()
    yield tmp_path / "cache/mim3d"
    library.cache_clear()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "twice.c"
    path.write_text(SOURCE)
    return path


def twice(loaded):
    loaded.twice.argtypes, loaded.twice.restype = [ctypes.c_double], ctypes.c_double
    return loaded.twice(-3.5)


def libraries(cache):
    return [path for path in cache.iterdir() if path.suffix == ".so"]


def test_a_library_is_compiled_once(cache, source, monkeypatch):
    assert twice(library(source, "all is slower")) == 7
    (path,) = libraries(cache)
    library.cache_clear()
    monkeypatch.setattr(compilation, "_run_compiler", pytest.fail)
    monkeypatch.setattr(compilation, "FileLock", pytest.fail)
    assert twice(library(source, "all is slower")) == 7
    assert [entry.suffix for entry in sorted(cache.iterdir())] == [".lock", ".so"]
    assert path.name.startswith("twice-")


def test_another_source_is_another_library(cache, source):
    library(source, "all is slower")
    source.write_text(SOURCE.replace("2 *", "3 *"))
    library.cache_clear()
    assert twice(library(source, "all is slower")) == 10.5
    assert len(libraries(cache)) == 2


def test_a_damaged_library_is_made_again(cache, source):
    library(source, "all is slower")
    (path,) = libraries(cache)
    # A new file: the old one is mapped into this process.
    path.unlink()
    path.write_bytes(b"\x7fELF and no more")
    library.cache_clear()
    assert twice(library(source, "all is slower")) == 7


def test_a_compiler_without_openmp_will_do(source, tmp_path, monkeypatch):
    picky = tmp_path / "picky"
    picky.write_text('#!/bin/sh\ncase "$*" in *fopenmp*) echo "no OpenMP" >&2; exit 1;; esac\nexec cc "$@"\n')
    picky.chmod(0o755)
    monkeypatch.setenv("CC", str(picky))
    assert twice(library(source, "all is slower")) == 7


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler", "no no-such-compiler found"), ("false", "false ended with 1")],
)
def test_without_a_compiler_a_warning_says_so_once(source, monkeypatch, compiler, reason):
    monkeypatch.setenv("CC", compiler)
    with pytest.warns(RuntimeWarning, match=f"slower, because it could not be compiled .{reason}"):
        assert library(source, "all is slower") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library(source, "all is slower") is None
    assert not Compiled._is_possible


def test_what_is_wrong_with_a_source_is_said(source):
    source.write_text("int twice(\n")
    with pytest.warns(RuntimeWarning, match="twice.c"):
        assert library(source, "all is slower") is None


def test_without_a_folder_for_it_nothing_is_compiled(source, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "nowhere")
    with pytest.warns(RuntimeWarning, match="nowhere/mim3d is no folder to keep it in"):
        assert library(source, "all is slower") is None


def test_compiling_can_be_turned_off(cache, source, monkeypatch):
    monkeypatch.setenv("MIM3D_COMPILE", "0")
    assert library(source, "all is slower") is None
    assert not cache.exists()


WITHOUT_A_COMPILER = """
import torch
from mim3d.supernova.hydrodynamics import signal_speed

gas = torch.ones(1, 5, 4, 4, 4)
gas[:, 4] = 3.0
print(*(round(float(signal_speed(gas, torch.tensor(5 / 3))), 4) for _ in range(2)))
"""


def test_the_solver_does_without(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["2.291", "2.291"]
    assert done.stderr.count("the gas solver runs") == 1


def paying(function, monkeypatch):
    """Return a function that PyTorch compiles when it is called for the second time."""
    monkeypatch.setattr(compilation, "_PAYS_AFTER_SECONDS", 0.0)
    return Compiled(function)


@pytest.fixture
def compiled(monkeypatch):
    """What is compiled by PyTorch, without its compiler."""
    functions = []
    monkeypatch.setattr(
        torch, "compile", lambda function, *, dynamic: functions.append((function, dynamic)) or function
    )
    return functions


def test_functions_of_tensors_are_compiled_once_that_pays(monkeypatch, compiled):
    seldom = Compiled(lambda x: x + 1)
    for _ in range(3):
        seldom(torch.zeros(2))
    assert not compiled
    often = paying(lambda x: x + 1, monkeypatch)
    for _ in range(3):
        assert often(torch.zeros(2)).tolist() == [1, 1]
    assert compiled == [(often.__wrapped__, True)]


def test_gradients_go_to_the_function_as_it_is(monkeypatch, compiled):
    function = paying(lambda x: x + 1, monkeypatch)
    for _ in range(3):
        function(torch.zeros(2, requires_grad=True))
    assert not compiled


def test_a_function_that_cannot_be_compiled_says_so_once(monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def fail(function, *, dynamic):
        raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", fail)

    def shift(x):
        return x + 1

    function = paying(shift, monkeypatch)
    function(torch.zeros(2))
    with pytest.warns(RuntimeWarning, match="shift runs slower"):
        assert function(torch.zeros(2)).tolist() == [1, 1]
    assert function(torch.zeros(2)).tolist() == [1, 1]


def test_an_error_of_the_function_itself_is_not_taken_for_the_compilers(monkeypatch, compiled):
    function = paying(lambda x, y: x + y, monkeypatch)
    function(torch.zeros(2), torch.zeros(2))
    with pytest.raises(RuntimeError, match="size"):
        function(torch.zeros(2), torch.zeros(3))
    assert Compiled._is_possible


@pytest.mark.slow
def test_a_sweep_is_the_same_once_pytorch_has_compiled_it(monkeypatch):
    """Needs a C++ compiler; on a GPU this is how sweeps are compiled."""
    from mim3d.supernova import hydrodynamics

    sweep = hydrodynamics._sweep.__wrapped__
    function = paying(sweep, monkeypatch)
    step, gamma = torch.full((1, 1, 1), 0.01), torch.tensor(5 / 3)
    for length, columns in ((14, 9), (14, 9), (23, 40)):
        gas = torch.rand(1, 5, length, columns) + 0.5
        gas[:, 4] += 3
        results = function(gas, step, gamma), sweep(gas, step, gamma)
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    assert function._program is not None


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache/mim3d"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home/.cache/mim3d"


def test_a_compiled_function_keeps_its_name_and_documentation():
    def shift(x):
        """Add one."""
        return x + 1

    assert Compiled(shift).__name__ == "shift"
    assert Compiled(shift).__doc__ == "Add one."


def test_no_more_threads_than_have_work():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for cells, threads in ((16**3, 1), (32**3, 1), (2 * 2**16, 2), (128**3, 3)):
            with few_threads(cells):
                assert torch.get_num_threads() == threads
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
