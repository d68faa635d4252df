"""MIM of OpenSTL: recorded forecasts of theirs, and their equations written out once more."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from mim3d import checkpoint
from mim3d.cli import main
from mim3d.compat import convert
from mim3d.compat.openstl import load_tensors, network_settings, read_checkpoint
from mim3d.nn import build

GOLDEN = Path(__file__).parents[1] / "golden" / "openstl"
HIDDEN, LAYERS, KERNEL, GRID, CHANNELS = 3, 3, 3, (5, 4), 2


def tensors(layer_norm: bool, seed: int = 0, kernel: int = KERNEL) -> dict[str, torch.Tensor]:
    """Random tensors with OpenSTL's names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int) -> None:
        made[name] = 0.3 * torch.randn(shape, generator=generator)

    def convolution(name: str, before: int, gates: int) -> None:
        add(f"{name}.0.weight", gates * HIDDEN, before, kernel, kernel)
        if layer_norm:
            add(f"{name}.1.weight", gates * HIDDEN, *GRID)
            add(f"{name}.1.bias", gates * HIDDEN, *GRID)

    def peephole_lstm(cell: str) -> None:
        add(f"{cell}.ct_weight", 2 * HIDDEN, *GRID)
        add(f"{cell}.oc_weight", HIDDEN, *GRID)
        convolution(f"{cell}.conv_h_concat", HIDDEN, 4)
        convolution(f"{cell}.conv_x_concat", HIDDEN, 4)
        add(f"{cell}.conv_last.weight", HIDDEN, 2 * HIDDEN, 1, 1)

    for name, before, gates in (
        ("conv_x", CHANNELS, 7), ("conv_h", HIDDEN, 4), ("conv_m", HIDDEN, 3), ("conv_o", 2 * HIDDEN, 1)
    ):  # fmt: skip
        convolution(f"stlstm_layer.0.{name}", before, gates)
    add("stlstm_layer.0.conv_last.weight", HIDDEN, 2 * HIDDEN, 1, 1)
    for layer in range(1, LAYERS):
        peephole_lstm(f"stlstm_layer.{layer}")
        for name, gates in (("conv_t_cc", 3), ("conv_s_cc", 4), ("conv_x_cc", 4)):
            convolution(f"stlstm_layer.{layer}.{name}", HIDDEN, gates)
        peephole_lstm(f"stlstm_layer_diff.{layer - 1}")
    add("conv_last.weight", CHANNELS, HIDDEN, 1, 1)
    return made


class Reference:
    """The equations, on OpenSTL's tensors."""

    def __init__(self, given: dict[str, torch.Tensor]) -> None:
        self.w = {name: tensor.double() for name, tensor in given.items()}

    def conv(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.w.get(f"{name}.0.weight", self.w.get(f"{name}.weight"))
        assert weight is not None
        y = functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if f"{name}.1.weight" in self.w:
            mean = y.mean((1, 2, 3), keepdim=True)
            variance = ((y - mean) ** 2).mean((1, 2, 3), keepdim=True)
            y = (y - mean) / (variance + 1e-5).sqrt() * self.w[f"{name}.1.weight"] + self.w[f"{name}.1.bias"]
        return y

    def peephole_lstm(self, cell: str, x, h, c):
        i, g, f, o = (self.conv(f"{cell}.conv_x_concat", x) + self.conv(f"{cell}.conv_h_concat", h)).chunk(
            4, 1
        )
        w_i, w_f = self.w[f"{cell}.ct_weight"].chunk(2)
        c = (f + w_f * c + 1).sigmoid() * c + (i + w_i * c).sigmoid() * g.tanh()
        return (o + self.w[f"{cell}.oc_weight"] * c).sigmoid() * c.tanh(), c

    def first(self, x, h, c, m):
        name = "stlstm_layer.0"
        i_x, f_x, g_x, i_y, f_y, g_y, o_x = self.conv(f"{name}.conv_x", x).chunk(7, 1)
        i_h, f_h, g_h, o_h = self.conv(f"{name}.conv_h", h).chunk(4, 1)
        i_m, f_m, g_m = self.conv(f"{name}.conv_m", m).chunk(3, 1)
        c = (f_x + f_h + 1).sigmoid() * c + (i_x + i_h).sigmoid() * (g_x + g_h).tanh()
        m = (f_y + f_m + 1).sigmoid() * m + (i_y + i_m).sigmoid() * (g_y + g_m).tanh()
        both = torch.cat((c, m), 1)
        o = (o_x + o_h + self.conv(f"{name}.conv_o", both)).sigmoid()
        return o * self.conv(f"{name}.conv_last", both).tanh(), c, m

    def block(self, layer: int, x, d, h, c, m, s):
        name = f"stlstm_layer.{layer}"
        i_h, g_h, o_h = self.conv(f"{name}.conv_t_cc", h).chunk(3, 1)
        i_m, g_m, f_m, o_m = self.conv(f"{name}.conv_s_cc", m).chunk(4, 1)
        i_x, g_x, f_x, o_x = self.conv(f"{name}.conv_x_cc", x).chunk(4, 1)
        trend, s = self.peephole_lstm(name, d, c, s)
        c = trend + (i_x + i_h).sigmoid() * (g_x + g_h).tanh()
        m = (f_x + f_m + 1).sigmoid() * m + (i_x + i_m).sigmoid() * (g_x + g_m).tanh()
        reduced = self.conv(f"{name}.conv_last", torch.cat((c, m), 1))
        return (o_x + o_h + o_m).sigmoid() * reduced.tanh(), c, m, s

    def unroll(self, frames: torch.Tensor, input_length: int) -> torch.Tensor:
        zeros = frames.new_zeros(len(frames), HIDDEN, *GRID)
        h, c, s = [zeros] * LAYERS, [zeros] * LAYERS, [zeros] * LAYERS
        d_h, d_c = [zeros] * LAYERS, [zeros] * LAYERS
        m, outputs = zeros, []
        for t in range(frames.shape[1] - 1):
            x = frames[:, t] if t < input_length else outputs[-1]
            before = h[0]
            h[0], c[0], m = self.first(x, h[0], c[0], m)
            d = h[0] - before if t else zeros
            for layer in range(1, LAYERS):
                if t:
                    d_h[layer], d_c[layer] = self.peephole_lstm(
                        f"stlstm_layer_diff.{layer - 1}", d, d_h[layer], d_c[layer]
                    )
                    d = d_h[layer]
                h[layer], c[layer], m, s[layer] = self.block(
                    layer, h[layer - 1], d, h[layer], c[layer], m, s[layer]
                )
            outputs.append(self.conv("conv_last", h[-1]))
        return torch.stack(outputs, 1)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_network_is_the_equations(layer_norm):
    given = tensors(layer_norm)
    network = build("mim-openstl", network_settings(given)).double()
    load_tensors(network, given)
    frames = torch.randn(2, 6, CHANNELS, *GRID, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            network(frames, 3), Reference(given).unroll(frames, 3), atol=1e-12, rtol=1e-10
        )


@pytest.mark.parametrize("end", ["pth", "ckpt"])
def test_recorded_forecasts(end, tmp_path):
    """Bare weights without layer normalisation, and the same in Lightning's checkpoint."""
    source = GOLDEN / "openstl_a.pth"
    if end == "ckpt":
        weights = {f"model.{name}": value for name, value in torch.load(source, weights_only=True).items()}
        source = tmp_path / "epoch.ckpt"
        torch.save({"state_dict": weights, "pytorch-lightning_version": "2.0"}, source)
    with np.load(GOLDEN / "openstl_a.npz", allow_pickle=False) as file:
        frames, expected = torch.from_numpy(file["frames"]), file["predictions"]
        meta = json.loads(str(file["meta"]))
    target = tmp_path / "model.safetensors"
    convert(source, target, grid=meta["grid"], input_length=meta["input_length"])
    found = checkpoint.read(target)
    assert found.network == "mim-openstl"
    assert found.settings["patch_size"] == meta["patch_size"]
    assert found.settings["hidden_channels"] == meta["num_hidden"]
    assert list(found.grid or ()) == meta["grid"]
    with torch.no_grad():
        outputs = found.build_network().unroll(frames, meta["input_length"])
    np.testing.assert_allclose(outputs.numpy(), expected, atol=1e-5, rtol=1e-4)


def test_command_line(tmp_path, capsys):
    path, target = tmp_path / "model.pth", tmp_path / "model.safetensors"
    torch.save(tensors(True), path)
    assert main(["convert", str(path), str(target)]) == 0
    assert "mim-openstl" in capsys.readouterr().out
    assert checkpoint.read(target).build_network().settings["layer_norm"] is True


class Opened:
    """Would tell that a file ran a program."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a program of the file ran')",))


def refused(given: object, tmp_path: Path, match: str, **options) -> None:
    path, target = tmp_path / "model.pth", tmp_path / "model.safetensors"
    torch.save(given, path)
    with pytest.raises(ValueError, match=match):
        convert(path, target, **options)
    assert not target.exists()


def test_what_cannot_be_converted_is_named(tmp_path):
    whole = tensors(False)
    refused({"state_dict": {"weight": torch.zeros(2)}}, tmp_path, "holds no MIM network of OpenSTL")
    refused([torch.zeros(2)], tmp_path, "holds no weights by name, found a list")
    refused(whole | {"extra": torch.zeros(2)}, tmp_path, "do not fit the network: unexpected extra")
    refused(
        whole | {"conv_last.weight": torch.zeros(9, HIDDEN, 1, 1)}, tmp_path, r"wrong shape conv_last\.weight"
    )
    short = {name: value for name, value in whole.items() if name != "stlstm_layer.1.conv_t_cc.0.weight"}
    refused(short, tmp_path, r"nothing for stack\.blocks\.0\.from_hidden\.conv\.weight")
    refused(tensors(False, kernel=2), tmp_path, r"kernels must be odd .* found \(2, 2\)")
    one = {name: value for name, value in whole.items() if "diff" not in name and "layer.0" in name}
    refused(one, tmp_path, "has no MIM block")
    unequal = whole | {"stlstm_layer.2.conv_last.weight": torch.zeros(4, 8, 1, 1)}
    refused(unequal, tmp_path, r"as many hidden channels as the next, found \[3, 3, 4\]")
    refused(whole, tmp_path, r"grid \(8, 8\) and patch_size 1 do not fit", grid=(8, 8))
    refused(whole, tmp_path, "moving averages", average=True)


def test_programs_are_not_run(tmp_path):
    refused(
        {"state_dict": tensors(False), "callbacks": Opened()}, tmp_path, "not a checkpoint of tensors alone"
    )
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Opened()))
    with pytest.raises(ValueError, match="not a checkpoint of tensors alone"):
        read_checkpoint(tmp_path / "bare.pth")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match="not a checkpoint of tensors alone"):
        convert(tmp_path / "arrays.npz", tmp_path / "model.safetensors")
