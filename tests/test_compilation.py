import os
import subprocess
import sys

import pytest
import torch

from mim3d.compilation import Compiled, uncompiled

WITHOUT_A_COMPILER = """
import torch
from mim3d.compilation import Compiled

double, triple = Compiled(lambda x: 2 * x + 1), Compiled(lambda x: 3 * x + 1)
x = torch.arange(3.0)
print(double(x).tolist(), double(x).tolist(), triple(x).tolist())
"""


def test_without_a_compiler_functions_run_as_they_are_and_say_so_once(tmp_path):
    nothing = {"PATH": str(tmp_path), "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER],
        env=os.environ | nothing | {"MIM3D_COMPILE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[1.0, 3.0, 5.0] [1.0, 3.0, 5.0] [1.0, 4.0, 7.0]"
    assert done.stderr.count("runs uncompiled") == 1


def test_an_error_of_the_function_itself_is_not_taken_for_the_compilers():
    with pytest.raises(RuntimeError, match="size"):
        Compiled(lambda x, y: x + y)(torch.zeros(2), torch.zeros(3))
    assert Compiled._is_possible == (os.environ.get("MIM3D_COMPILE", "1") != "0")


def test_compilation_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(Compiled, "_is_possible", False)
    monkeypatch.setattr(torch, "compile", pytest.fail)
    assert Compiled(lambda x: x + 1)(1) == 2


def test_a_compiled_function_keeps_its_name_and_documentation():
    def shift(x):
        """Add one."""
        return x + 1

    assert Compiled(shift).__name__ == "shift"
    assert Compiled(shift).__doc__ == "Add one."


def test_uncompiled_functions_take_no_more_threads_than_have_work():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for cells, threads in ((16**3, 1), (32**3, 1), (2 * 2**16, 2), (128**3, 3)):
            with uncompiled(cells):
                assert torch.get_num_threads() == threads
                assert not Compiled._is_wanted
            assert torch.get_num_threads() == 3
        assert Compiled._is_wanted
    finally:
        torch.set_num_threads(before)
