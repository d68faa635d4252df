import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mim3d import checkpoint
from mim3d.compat import convert

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("axes", [2, 3])
def test_converted_checkpoint_forecasts_as_the_original(axes, tmp_path):
    folder = GOLDEN / f"checkpoint{axes}d"
    with np.load(folder / "expected.npz", allow_pickle=False) as file:
        frames = torch.from_numpy(np.moveaxis(file["frames"], -1, 2).copy())
        expected = np.moveaxis(file["predictions"], -1, 2)
        meta = json.loads(str(file["meta"]))
    target = tmp_path / "model.safetensors"
    length = meta["input_length"]
    convert(
        folder / "model.ckpt-7",
        target,
        patch_size=meta["patch_size"],
        input_length=length,
        num_frames=meta["total_length"],
    )
    found = checkpoint.read(target)
    assert (found.input_length, found.num_frames) == (length, meta["total_length"])
    assert found.grid == frames.shape[3:]
    assert found.provenance["converted_from"] == "model.ckpt-7"
    with torch.no_grad():
        forecast = found.build_network().forecast(frames[:, :length], meta["total_length"] - length)
    np.testing.assert_allclose(forecast.numpy(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("source", ["model.ckpt-7", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001",
                                    "model.ckpt", ""])  # fmt: skip
def test_any_file_prefix_or_folder_will_do(source, tmp_path):
    converted = convert(GOLDEN / "checkpoint3d" / source, tmp_path / "model.safetensors")
    assert converted.grid == (6, 6, 4)


def test_averages_are_others_than_the_weights(tmp_path):
    source = GOLDEN / "checkpoint3d"
    plain = convert(source, tmp_path / "plain.safetensors").weights
    average = convert(source, tmp_path / "average.safetensors", average=True)
    assert average.provenance["moving_average"] is True
    assert any(not torch.equal(plain[name], average.weights[name]) for name in plain)


def test_several_checkpoints_are_listed(tmp_path):
    for path in (GOLDEN / "checkpoint3d").glob("model.ckpt-7.*"):
        shutil.copyfile(path, tmp_path / path.name)
        shutil.copyfile(path, tmp_path / path.name.replace("-7", "-8"))
    for source in (tmp_path, tmp_path / "model.ckpt"):
        with pytest.raises(ValueError, match=r"several checkpoints .*: model\.ckpt-7, model\.ckpt-8"):
            convert(source, tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_missing_and_foreign_files_are_named(tmp_path):
    target = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"no TensorFlow checkpoint at .*model\.ckpt"):
        convert(tmp_path / "model.ckpt", target)
    with pytest.raises(ValueError, match="no TensorFlow checkpoint"):
        convert(tmp_path / "nowhere" / "model.ckpt", target)
    (tmp_path / "notes").write_text("not weights")
    with pytest.raises(ValueError, match="is not a TensorFlow checkpoint: give its prefix"):
        convert(tmp_path / "notes", target)
    assert not target.exists()
