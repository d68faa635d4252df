"""Weights of MIM networks that were trained with OpenSTL (PyTorch)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mim3d.compat.tensorflow import frame_channels, listed, patch_and_grid
from mim3d.compat.tensors import read_tensors
from mim3d.errors import UserError
from mim3d.nn import ForecastNetwork

NETWORK = "mim-openstl"

_FIRST = "stlstm_layer.0.conv_x.0.weight"
_CELL = {"conv_x": "from_input", "conv_h": "from_hidden", "conv_m": "from_memory", "conv_o": "to_output"}
_LAST = {"conv_last": "reduce"}
_PEEPHOLE_LSTM = {
    "conv_x_concat": "from_input",
    "conv_h_concat": "from_hidden",
    "ct_weight": "gate_peephole",
    "oc_weight": "output_peephole",
}
_BLOCK = {"conv_x_cc": "from_input", "conv_t_cc": "from_hidden", "conv_s_cc": "from_memory"}
# The first layer's gates i, f, g, ... become i, g, f, ...
_GATES = {"from_input": (0, 2, 1, 3, 5, 4, 6), "from_hidden": (0, 2, 1, 3), "from_memory": (0, 2, 1)}


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, bare (`.pth`) or inside Lightning's (`.ckpt`), and nothing else.

    Raises
    ------
    UserError
        If the file holds more than tensors and plain settings (PyTorch then refuses to open it, because it
        could run any program), is damaged, or holds no MIM network of OpenSTL.
    """
    tensors = {name.removeprefix("model."): tensor for name, tensor in read_tensors(path).items()}
    if _FIRST not in tensors:
        raise UserError(f"{path} holds no MIM network of OpenSTL: there is no tensor {_FIRST!r}")
    return tensors


def network_settings(
    tensors: Mapping[str, Tensor], patch_size: int | None = None, grid: Sequence[int] | None = None
) -> dict[str, Any]:
    """Read the settings of the network `mim-openstl` off the shapes of its tensors.

    Parameters
    ----------
    tensors
        As `read_checkpoint` gives them.
    patch_size
        OpenSTL's `patch_size`. It is not in the shapes; it follows from `grid`, and is 1 where neither is
        given.
    grid
        Voxels along each axis of a frame, before patching.

    Raises
    ------
    UserError
        If the shapes contradict each other, `patch_size` or `grid`, or the network is one that MIM here
        cannot be.
    """
    layers = 1 + max(int(found[1]) for name in tensors if (found := re.match(r"stlstm_layer\.(\d+)\.", name)))
    if layers < 2 or "stlstm_layer.1.ct_weight" not in tensors:
        raise UserError("the checkpoint has no MIM block: OpenSTL's network of one layer is not MIM")
    hidden = [
        tensors[name].shape[0]
        for layer in range(layers)
        if (name := f"stlstm_layer.{layer}.conv_last.weight") in tensors
    ]
    if len(hidden) != layers or len(set(hidden)) > 1:
        raise UserError(
            f"every layer must have as many hidden channels as the next, found {hidden} of {layers} layers"
        )
    _, channels, *kernel = tensors[_FIRST].shape
    if len(set(kernel)) > 1 or kernel[0] % 2 == 0:
        raise UserError(
            f"kernels must be odd and as long along every axis, found {tuple(kernel)}: OpenSTL's "
            "padding gives even ones another grid, which nothing here reproduces"
        )
    num_axes = len(kernel)
    coarse = tuple(tensors["stlstm_layer.1.ct_weight"].shape[1:])
    patch_size, frame_grid = patch_and_grid(coarse, patch_size, grid)
    return {
        "in_channels": frame_channels(channels, patch_size, num_axes),
        "hidden_channels": hidden,
        "kernel_size": kernel[0],
        "num_axes": num_axes,
        "grid": None if frame_grid is None else list(frame_grid),
        "patch_size": patch_size,
        "layer_norm": "stlstm_layer.0.conv_x.1.weight" in tensors,
        "peephole": "voxel",
    }


def load_tensors(network: ForecastNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Fill a network `mim-openstl` with OpenSTL's tensors.

    Biases of convolutions, which OpenSTL has none of, become zero. `conv_last` of its MIM-N takes no part in
    its forecasts and is left out.

    Raises
    ------
    UserError
        If tensors are missing, unexpected or of another shape; the message names them. The network is then
        left as it was.
    """
    own = network.state_dict()
    converted: dict[str, Tensor] = {}
    unexpected: list[str] = []
    misshapen: list[str] = []
    for name, tensor in tensors.items():
        if re.fullmatch(r"stlstm_layer_diff\.\d+\.conv_last\.weight", name):
            continue
        parameter = parameter_name(name)
        if parameter is None or parameter not in own:
            unexpected.append(name)
        elif tensor.shape != own[parameter].shape:
            misshapen.append(f"{name} {tuple(tensor.shape)} for {tuple(own[parameter].shape)}")
        else:
            converted[parameter] = _in_our_order(parameter, tensor).to(own[parameter].dtype)
    for parameter, value in own.items():
        if parameter.endswith("conv.bias") or parameter == "to_frame.bias":
            converted[parameter] = torch.zeros_like(value)
    missing = [parameter for parameter in own if parameter not in converted]
    lists = {"unexpected": unexpected, "wrong shape": misshapen}
    if not misshapen:
        lists["nothing for"] = missing
    if problems := [f"{what} {listed(names)}" for what, names in lists.items() if names]:
        raise UserError(f"OpenSTL's tensors do not fit the network: {'; '.join(problems)}")
    network.load_state_dict(converted)


def parameter_name(name: str) -> str | None:
    """Give the name of the parameter here of a tensor of OpenSTL's, None where it is none of MIM's."""
    if name == "conv_last.weight":
        return "to_frame.weight"
    found = re.fullmatch(r"(stlstm_layer|stlstm_layer_diff)\.(\d+)\.(\w+)(?:\.(.+))?", name)
    if found is None:
        return None
    kind, number, part, rest = found[1], int(found[2]), found[3], found[4]
    parts: dict[str, str]
    if kind == "stlstm_layer_diff":
        cell, parts = f"stack.differences.{number}", _PEEPHOLE_LSTM
    elif number == 0:
        cell, parts = "stack.first", _CELL | _LAST
    else:
        inner = {theirs: f"stationary.{ours}" for theirs, ours in _PEEPHOLE_LSTM.items()}
        cell, parts = f"stack.blocks.{number - 1}", _BLOCK | _LAST | inner
    # A convolution and the normalisation that follows it are 0 and 1 of a sequence.
    ends = {None: "", "weight": ".conv.weight", "0.weight": ".conv.weight"}
    ends |= {"1.weight": ".norm.weight", "1.bias": ".norm.bias"}
    if part not in parts or rest not in ends:
        return None
    return f"{cell}.{parts[part]}{ends[rest]}"


def _in_our_order(parameter: str, tensor: Tensor) -> Tensor:
    cell, _, rest = parameter.rpartition("stack.first.")
    order = _GATES.get(rest.split(".")[0]) if rest != parameter and not cell else None
    if order is None:
        return tensor
    gates = tensor.chunk(len(order))
    return torch.cat([gates[gate] for gate in order])
