"""The programs in `examples/`, small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mim3d import checkpoint

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_the_built_in_model_from_nothing(tmp_path):
    sizes = {"RUNS": 16, "TEST_RUNS": 1, "GRID": 16, "VOXELS": 16, "STEPS": 4, "WINDOW": 8}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, **{name: str(size) for name, size in sizes.items()}, "PATH": path}
    for _ in range(2):
        done = subprocess.run(
            [EXAMPLES / "reproduce_sn32.sh", tmp_path],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    # The second time there was nothing to do but to calibrate and score.
    assert "finished" in done.stdout
    made = checkpoint.read(tmp_path / "sn32.safetensors")
    assert made.guard is not None
    assert made.spread is not None
    assert (tmp_path / "scores" / "evaluation.json").is_file()
