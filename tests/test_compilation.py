import os
import subprocess
import sys

import pytest
import torch
from filelock import FileLock

from mim3d import compilation
from mim3d.compilation import Compiled, cache_folder, few_threads

WITHOUT_A_COMPILER = """
import torch
from mim3d.compilation import Compiled

double, triple = Compiled(lambda x: 2 * x + 1), Compiled(lambda x: 3 * x + 1)
x = torch.arange(3.0)
print(double.compile(x), double(x).tolist(), triple.compile(x), triple(x).tolist())
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Compiled, "_is_possible", True)
    return tmp_path / "mim3d"


def paying(function, monkeypatch):
    """Return a function that is compiled when it is called for the second time."""
    monkeypatch.setattr(compilation, "_PAYS_AFTER_SECONDS", 0.0)
    return Compiled(function)


def test_without_a_compiler_functions_run_as_they_are_and_say_so_once(tmp_path):
    nothing = {"PATH": str(tmp_path), "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER],
        env=os.environ | nothing | {"MIM3D_COMPILE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "None [1.0, 3.0, 5.0] None [1.0, 4.0, 7.0]"
    assert done.stderr.count("runs uncompiled") == 1


@pytest.mark.slow
def test_a_compiled_function_takes_space_of_any_size_in_any_layout(cache, monkeypatch):
    calls = []

    def blend(x, weight):
        calls.append(x.shape)
        return (x[:, :, 1:] * weight + x[:, :, :-1]).sin()

    blended = Compiled(blend)
    x, weight = torch.rand(1, 2, 6, 5, 4), torch.tensor(0.3)
    assert blended.compile(x, weight) is not None
    assert [path.suffix for path in sorted(cache.iterdir())] == [".lock", ".pt2"]
    calls.clear()
    for shape in ((1, 2, 6, 5, 4), (1, 2, 9, 9, 9), (1, 2, 3, 20, 2)):
        x = torch.rand(shape)
        for given in (
            x,
            x.transpose(2, 4),
            torch.rand(1, 2, *(2 * n for n in shape[2:]))[..., ::2, ::2, ::2],
        ):
            torch.testing.assert_close(blended(given, weight), blend(given, weight))
    assert len(calls) == 9, "only the calls to compare with"

    # Another process finds it; another number of channels, or gradients, are another matter.
    again = Compiled(blend)
    monkeypatch.setattr(Compiled, "_build", lambda *_: pytest.fail("built again"))
    torch.testing.assert_close(again(x, weight), blend(x, weight))
    calls.clear()
    again(torch.rand(1, 3, 6, 5, 4), weight)
    again(x.requires_grad_(), weight).sum().backward()
    assert len(calls) == 2
    assert x.grad is not None


def test_it_is_compiled_once_it_pays(monkeypatch):
    built = []
    monkeypatch.setattr(Compiled, "_build", lambda self, signature, *_: built.append(signature))
    seldom = Compiled(lambda x: x + 1)
    for _ in range(3):
        seldom(torch.zeros(2))
    assert not built
    often = paying(lambda x: x + 1, monkeypatch)
    assert often(torch.zeros(2)).tolist() == [1, 1]
    assert not built
    assert often(torch.zeros(2)).tolist() == [1, 1]
    assert len(built) == 1
    often(torch.zeros(2, dtype=torch.float64))
    assert len(built) == 1, "each kind of argument pays for itself"


def test_what_another_process_compiles_is_not_waited_for(cache):
    function = Compiled(lambda x: x + 1)
    x = torch.zeros(2)
    cache.mkdir()
    path = function._path(compilation._signature((x,)))
    with FileLock(path.with_suffix(".lock")):
        assert function.compile(x, wait=False) is None
    assert function(x).tolist() == [1, 1]


def test_a_damaged_library_is_thrown_away(cache):
    function = Compiled(lambda x: x + 1)
    x = torch.zeros(2)
    cache.mkdir()
    path = function._path(compilation._signature((x,)))
    path.write_bytes(b"PK\x03\x04 no library")
    assert function(x).tolist() == [1, 1]
    assert not path.exists()


def test_an_error_of_the_function_itself_is_not_taken_for_the_compilers(monkeypatch):
    function = paying(lambda x, y: x + y, monkeypatch)
    with pytest.raises(RuntimeError, match="size"):
        function(torch.zeros(2), torch.zeros(3))
    with pytest.raises(RuntimeError):
        function.compile(torch.zeros(2), torch.zeros(3))
    assert Compiled._is_possible


def test_compilation_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(Compiled, "_is_possible", False)
    monkeypatch.setattr(Compiled, "_build", pytest.fail)
    function = Compiled(lambda x: x + 1)
    assert function(1) == 2
    assert function.compile(torch.zeros(2)) is None


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "mim3d"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home/.cache/mim3d"


def test_without_a_folder_for_it_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "nowhere")
    function = Compiled(lambda x: x + 1)
    with pytest.warns(RuntimeWarning, match="nowhere/mim3d is no folder to keep it in"):
        assert function.compile(torch.zeros(2)) is None
    assert not Compiled._is_possible
    assert function(torch.zeros(2)).tolist() == [1, 1]


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
