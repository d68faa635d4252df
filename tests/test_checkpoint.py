import inspect
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mim3d import checkpoint
from mim3d.checkpoint import Checkpoint
from mim3d.errors import UserError
from mim3d.nn import MIM, NETWORKS, build


def make(network: str = "mim", **changes) -> Checkpoint:
    torch.manual_seed(0)
    settings = {"in_channels": 3, "hidden_channels": [4, 4], "num_axes": 3, "kernel_size": 3, "patch_size": 2,
                "peephole": "channel", "static_channels": 1, "layer_norm": False}  # fmt: skip
    taken = inspect.signature(NETWORKS[network]).parameters
    if network == "fno":
        pytest.importorskip("neuralop")
        settings["hidden_channels"] = 4
    module = build(network, {name: value for name, value in settings.items() if name in taken})
    known = {
        "scaling": {"kinds": ["log"], "mean": [0.5]},
        "fields": ("density", "affected"),
        "static": ("site",),
        "grid": (8, 8, 8),
        "box_size": (60.0, 60.0, 60.0),
        "time_step": 1 / 150,
        "input_length": 1,
        "num_frames": 20,
        "units": {"density": "Msun / pc3"},
        "provenance": {"data": "made up", "scores": {"iou": 0.7}},
    }
    return Checkpoint(network, module.settings, module.state_dict(), **(known | changes))


@pytest.mark.parametrize("network", list(NETWORKS))
def test_what_is_written_is_read(network, tmp_path):
    path = tmp_path / "model.safetensors"
    written = make(network)
    checkpoint.save(written, path)
    found = checkpoint.read(path)
    for name in written.__dataclass_fields__:
        if name != "weights":
            assert getattr(found, name) == getattr(written, name), name
    assert found.weights.keys() == written.weights.keys()
    module = found.build_network()
    assert not module.training
    frames = torch.randn(1, 2, 3, 8, 8, 8)
    original = build(network, written.settings)
    original.load_state_dict(dict(written.weights))
    with torch.no_grad():
        assert torch.equal(module.forecast(frames, 3), original.forecast(frames, 3))


def test_half_the_size_computes_in_float32(tmp_path):
    written = make()
    checkpoint.save(written, tmp_path / "full")
    checkpoint.save(written, tmp_path / "half", half=True)
    saved = (tmp_path / "full").stat().st_size - (tmp_path / "half").stat().st_size
    # Its header is padded, and names the type of every weight.
    assert saved == pytest.approx(2 * sum(weight.numel() for weight in written.weights.values()), abs=500)
    module = checkpoint.read(tmp_path / "half").build_network()
    for name, weight in module.state_dict().items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, written.weights[name], rtol=5e-4, atol=1e-7)


def test_weights_too_large_for_half_precision_are_named(tmp_path):
    written = make()
    name = next(iter(written.weights))
    large = written.weights | {name: written.weights[name] + 1e5}
    with pytest.raises(UserError, match=f"the weight {name} holds 1e\\+05"):
        checkpoint.save(replace(written, weights=large), tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()


def test_same_checkpoint_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        checkpoint.save(make(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_unknown_stays_unknown(tmp_path):
    network = MIM(1, (4,), 3, num_axes=2, peephole="none")
    checkpoint.save(Checkpoint("mim", network.settings, network.state_dict()), tmp_path / "new" / "model")
    found = checkpoint.read(tmp_path / "new" / "model")
    assert (found.scaling, found.grid, found.time_step, found.fields, found.units) == (
        None,
        None,
        None,
        (),
        {},
    )


def test_failed_writing_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(make(), path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(make(provenance={"machine": object()}), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_half_precision_weights_become_full(tmp_path):
    written = make()
    weights = {name: tensor.bfloat16() for name, tensor in written.weights.items()}
    checkpoint.save(make(), tmp_path / "full")
    checkpoint.save(Checkpoint("mim", written.settings, weights), tmp_path / "half")
    assert (tmp_path / "half").stat().st_size < 0.7 * (tmp_path / "full").stat().st_size
    network = checkpoint.read(tmp_path / "half").build_network()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused_unopened(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.ckpt").write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    with pytest.raises(ValueError, match=r"model.ckpt is a pickle file .* only safetensors files are read"):
        checkpoint.read("model.ckpt")
    assert not Path("exploded").exists()


def test_torch_archives_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="is a pickle file"):
        checkpoint.read(tmp_path / "model.pth")


def test_missing_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"no checkpoint at .*model\.safetensors"):
        checkpoint.read(path)
    checkpoint.save(make(), path)
    data = path.read_bytes()
    for size in (0, 4, 100, len(data) - 10):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match="is not a safetensors file, or is damaged"):
            checkpoint.read(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "holds weights but not what mim3d needs"),
        ("[1]", "holds weights but not what mim3d needs"),
        ("{", "is not a safetensors file, or is damaged"),
        ('{"network": "mim", "settings": {}, "format_version": 99}', "format version 99"),
        ('{"network": "mim", "settings": {}}', "format version None"),
        ('{"network": "mim", "settings": {}, "format_version": 1, "age": 3}', "unknown entries .*: age"),
        ('{"network": "mim", "format_version": 1}', "entries missing .*: settings"),
    ],
)
def test_foreign_metadata_is_named(header, message, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(2)}, path, None if header is None else {"mim3d": header})
    with pytest.raises(ValueError, match=message):
        checkpoint.read(path)


def test_weights_that_do_not_fit_are_named():
    whole = make()
    for weights in ({}, whole.weights | {"extra": torch.zeros(1)}):
        broken = Checkpoint("mim", whole.settings, weights)
        with pytest.raises(ValueError, match="the checkpoint's weights do not fit its settings"):
            broken.build_network()


def test_metadata_is_plain_json(tmp_path):
    """Other languages can read it: one JSON object under one key of the safetensors header."""
    path = tmp_path / "model.safetensors"
    checkpoint.save(make(), path)
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["mim3d"])["fields"] == ["density", "affected"]
