"""A folder of files forecast: one output each, restarted, with a bad file among them, and a worker killed."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from mim3d.data import well
from mim3d.errors import UserError
from mim3d.report import BatchSettings, batch_lines, forecast_folder


@pytest.fixture
def inputs(tmp_path, blast_like):
    folder = tmp_path / "inputs"
    for seed in range(3):
        well.write(folder / f"cloud_{seed}.h5", blast_like(grid=16, frames=2, seed=seed))
    return folder


@pytest.fixture
def settings(model_path):
    return BatchSettings(str(model_path), steps=2, device="cpu")


def test_each_file_gets_a_forecast_and_finished_ones_are_kept(inputs, tmp_path, settings, blast_like):
    output = tmp_path / "out"
    result = forecast_folder(inputs, output, settings)
    assert (result.made, result.kept, result.failed) == (3, 0, {})
    assert sorted(path.name for path in output.glob("*.h5")) == [f"cloud_{k}.h5" for k in range(3)]
    assert well.read(output / "cloud_1.h5").fields["density"].shape == (2, 16, 16, 16)
    (output / "cloud_1.h5").unlink()
    kept = (output / "cloud_0.h5").stat().st_mtime_ns
    well.write(inputs / "two_runs.h5", [blast_like(grid=16, frames=1, seed=seed) for seed in (4, 5)])
    again = forecast_folder(inputs, output, settings)
    assert (again.made, again.kept) == (2, 2)
    assert (output / "cloud_0.h5").stat().st_mtime_ns == kept
    assert well.count(output / "two_runs.h5") == 2
    assert batch_lines(again, output)[0] == "2 were forecast already"


def test_a_bad_file_is_named_and_stops_nothing(inputs, tmp_path, settings):
    (inputs / "cloud_0.h5").write_bytes(b"not HDF5")
    result = forecast_folder(inputs, tmp_path / "out", settings)
    assert result.made == 2
    assert "neither an HDF5 file" in result.failed["cloud_0.h5"]
    assert not (tmp_path / "out/cloud_0.h5").exists()


def test_what_cannot_be_done_is_said_before_anything_is_written(inputs, tmp_path, settings):
    forecast_folder(inputs, tmp_path / "out", settings)
    other = BatchSettings(settings.model, steps=3, device="cpu")
    with pytest.raises(UserError, match=r"holds other forecasts .it differs in steps."):
        forecast_folder(inputs, tmp_path / "out", other)
    with pytest.raises(UserError, match="choose another --output"):
        forecast_folder(inputs, inputs, settings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \*.h5"):
        forecast_folder(tmp_path / "empty", tmp_path / "out", settings)
    (inputs / "cloud_0.npz").write_bytes(b"")
    with pytest.raises(UserError, match="the same file"):
        forecast_folder(inputs, tmp_path / "out", settings)


@pytest.mark.slow
def test_killing_a_worker_loses_nothing(inputs, tmp_path, settings, blast_like):
    for seed in range(3, 12):
        well.write(inputs / f"cloud_{seed}.h5", blast_like(grid=16, frames=2, seed=seed))
    forecast_folder(inputs, tmp_path / "alone", settings)
    output = tmp_path / "shared"
    options = [f"--model={settings.model}", "--steps=2", "--device=cpu", "--workers=2", f"--output={output}"]
    command = [sys.executable, "-m", "mim3d", "forecast", str(inputs), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(output.glob("cloud_*.h5")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    os.kill(workers[-1].pid, signal.SIGKILL)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "12 forecast in" in printed
    for path in (tmp_path / "alone").glob("*.h5"):
        np.testing.assert_allclose(
            well.read(output / path.name).fields["density"], well.read(path).fields["density"], rtol=1e-4
        )
