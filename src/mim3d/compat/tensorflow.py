"""Weights of the original TensorFlow programs, MIM (2-D) and 3D-MIM."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mim3d.compat.bundle import list_bundle, read_bundle
from mim3d.errors import UserError
from mim3d.nn import MIM, set_exact_sums

SCOPE = "predrnn/"
_AVERAGE = "/ExponentialMovingAverage"
_ADAM_SLOT = re.compile(r"_adam_mg(_\d+)?$|/Adam(_\d+)?$")
_MAX_NAMES = 5


def read_checkpoint(prefix: str | Path, average: bool = False) -> dict[str, np.ndarray]:
    """Read the network's variables from a checkpoint of the original programs.

    TensorFlow is not needed. The optimiser's variables are left out.

    Parameters
    ----------
    prefix
        Path of the checkpoint without `.index`, for instance `model.ckpt-7`.
    average
        Read the exponential moving averages of the variables instead of the variables. The original
        programs save them but never use them.

    Returns
    -------
    dict of str to numpy.ndarray
        Arrays by TensorFlow name (`predrnn/stlstm_1/input_to_state/kernel`, ...).

    Raises
    ------
    UserError
        If the files are missing or damaged, or hold no such network.
    """

    def wanted(name: str) -> bool:
        if not name.startswith(SCOPE) or _ADAM_SLOT.search(name.removesuffix(_AVERAGE)):
            return False
        return name.endswith(_AVERAGE) == average

    variables = {name.removesuffix(_AVERAGE): array for name, array in read_bundle(prefix, wanted).items()}
    if not variables:
        if average and any(name.startswith(SCOPE) for name in list_bundle(prefix)):
            raise UserError(f"the checkpoint {prefix} holds no moving averages")
        raise UserError(f"the checkpoint {prefix} holds no variable named {SCOPE}...: not a MIM network")
    return variables


def network_settings(
    variables: Mapping[str, np.ndarray], patch_size: int | None = None, grid: Sequence[int] | None = None
) -> dict[str, Any]:
    """Read the settings of a `MIM` network off the shapes of its variables.

    Parameters
    ----------
    variables
        Arrays by TensorFlow name.
    patch_size
        Voxels along every side of a patch. It is not in the shapes; it follows from `grid`, and is 1 where
        neither is given.
    grid
        Voxels along each axis of a frame, before patching.

    Returns
    -------
    dict
        Arguments for `MIM`.

    Raises
    ------
    UserError
        If a variable is missing, or the shapes contradict each other, `patch_size` or `grid`.
    """
    kernel = _variable(variables, f"{SCOPE}stlstm_1/input_to_state/kernel")
    num_axes = kernel.ndim - 2
    layers = 1
    while f"{SCOPE}stlstm_{layers + 1}/input_to_state/kernel" in variables:
        layers += 1
    coarse: tuple[int, ...] | None = None
    if layers > 1:
        coarse = _variable(variables, f"{SCOPE}stlstm_diff1/oc_weight").shape[:-1]
    patch_size, frame_grid = patch_and_grid(coarse, patch_size, grid)
    return {
        "in_channels": frame_channels(kernel.shape[-2], patch_size, num_axes),
        "hidden_channels": [kernel.shape[-1] // 4] * layers,
        "kernel_size": kernel.shape[0],
        "num_axes": num_axes,
        "grid": None if frame_grid is None else list(frame_grid),
        "patch_size": patch_size,
        "layer_norm": f"{SCOPE}stlstm_1/input_to_states" in variables,
        "peephole": "none" if coarse is None else "voxel",
        "residual": False,
        "static_channels": 0,
    }


def load_variables(network: MIM, variables: Mapping[str, np.ndarray], exact: bool = True) -> None:
    """Fill a network with variables of the original programs.

    Parameters
    ----------
    network
        A `MIM` with the settings of the original (see `network_settings`).
    variables
        Arrays by TensorFlow name, with or without the `:0` at the end.
    exact
        Sum the network's convolutions in float64 from now on, so that its outputs are those of the original
        as closely as float32 allows. Choose False to train or forecast with the weights at full speed. A
        converted checkpoint is always fast.

    Raises
    ------
    UserError
        If variables are missing, unexpected or of another shape; the message names them. The network is
        then left as it was.
    """
    arrays = {name.removesuffix(":0"): np.asarray(array) for name, array in variables.items()}
    names = variable_names(network)
    parameters = dict(network.named_parameters())
    problems: list[str] = []
    if missing := [name for name in names if name not in arrays]:
        problems.append(f"missing {listed(missing)}")
    if unexpected := [name for name in arrays if name not in names]:
        problems.append(f"unexpected {listed(unexpected)}")
    converted = {
        parameter: to_parameter(name, arrays[name]) for name, parameter in names.items() if name in arrays
    }
    misshapen = [
        f"{name} {arrays[name].shape} for the network's {tuple(parameters[parameter].shape)} of {parameter}"
        for name, parameter in names.items()
        if name in arrays and converted[parameter].shape != tuple(parameters[parameter].shape)
    ]
    if misshapen:
        problems.append(f"wrong shape {listed(misshapen)}")
    if problems:
        raise UserError(f"TensorFlow variables do not fit the network: {'; '.join(problems)}")
    with torch.no_grad():
        for name, array in converted.items():
            parameters[name].copy_(torch.from_numpy(array))
    set_exact_sums(network, exact)


def to_parameter(name: str, array: np.ndarray) -> np.ndarray:
    """Bring a TensorFlow variable, channels last, to PyTorch's layout, channels first.

    A kernel `(*kernel, in, out)` becomes `(out, in, *kernel)`, a peephole `(*space, C)` becomes
    `(C, *space)`; biases, scales and shifts stay.

    Parameters
    ----------
    name
        TensorFlow name, which tells a kernel from a peephole.
    array
        The variable, its gradient, or anything laid out like it.
    """
    array = np.moveaxis(array, -1, 0)
    return np.moveaxis(array, -1, 1) if name.endswith("/kernel") else array


def variable_names(network: MIM) -> dict[str, str]:
    """Give the TensorFlow name of each of a network's parameters.

    Returns
    -------
    dict of str to str
        Names of the parameters by TensorFlow name.
    """
    names = {"back_to_pixel": "to_frame"}
    names |= _cell_names("stlstm_1", "stack.first", _LSTM_NAMES)
    for k in range(len(network.hidden_channels) - 1):
        block = f"stlstm_{k + 2}"
        names |= _cell_names(f"stlstm_diff{k + 1}", f"stack.differences.{k}", _PEEPHOLE_NAMES)
        names |= _cell_names(block, f"stack.blocks.{k}", _LSTM_NAMES)
        names |= _cell_names(f"{block}/{block}", f"stack.blocks.{k}.stationary", _PEEPHOLE_NAMES)
    parameters = set(dict(network.named_parameters()))
    pairs: dict[str, str] = {}
    for name, module in names.items():
        pairs |= {
            f"{SCOPE}{name}": module,
            f"{SCOPE}{name}/kernel": f"{module}.weight",
            f"{SCOPE}{name}/bias": f"{module}.bias",
            # The originals name scale and shift of a norm by a letter behind the convolution's name.
            f"{SCOPE}{name}s": f"{module}.norm.weight".replace(".conv.norm", ".norm"),
            f"{SCOPE}{name}b": f"{module}.norm.bias".replace(".conv.norm", ".norm"),
        }
    return {name: parameter for name, parameter in pairs.items() if parameter in parameters}


_LSTM_NAMES = {
    "time_state_to_state": "from_hidden.conv",
    "spatio_state_to_state": "from_memory.conv",
    "input_to_state": "from_input.conv",
    "cell_reduce": "reduce.conv",
}
_PEEPHOLE_NAMES = {
    "state_to_state": "from_hidden.conv",
    "input_to_state": "from_input.conv",
    "c_t_weight": "gate_peephole",
    "oc_weight": "output_peephole",
}


def _cell_names(scope: str, cell: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{scope}/{name}": f"{cell}.{module}" for name, module in names.items()}


def _variable(variables: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in variables:
        raise UserError(
            f"no variable {name!r} among the {len(variables)} given: not a MIM network of the originals"
        )
    return variables[name]


def patch_and_grid(
    coarse: tuple[int, ...] | None, patch_size: int | None, grid: Sequence[int] | None
) -> tuple[int, tuple[int, ...] | None]:
    """Complete patch size and grid from the grid that the peepholes have.

    Raises
    ------
    UserError
        If they contradict each other.
    """
    if coarse is None:
        return patch_size or 1, None if grid is None else tuple(grid)
    if grid is None:
        patch_size = 1 if patch_size is None else patch_size
        return patch_size, tuple(patch_size * voxels for voxels in coarse)
    if patch_size is None:
        patch_size = max(1, grid[0] // coarse[0])
    if tuple(grid) != tuple(patch_size * voxels for voxels in coarse):
        raise UserError(
            f"grid {tuple(grid)} and patch_size {patch_size} do not fit the checkpoint, whose peepholes are "
            f"on a grid of {coarse} patches"
        )
    return patch_size, tuple(grid)


def frame_channels(channels: int, patch_size: int, num_axes: int) -> int:
    """Return the channels of a frame whose patches have so many.

    Raises
    ------
    UserError
        If the patch size does not fit.
    """
    if channels % patch_size**num_axes:
        raise UserError(
            f"patch_size {patch_size} does not fit: the network takes {channels} channels, not a multiple of "
            f"{patch_size}**{num_axes}"
        )
    return channels // patch_size**num_axes


def listed(names: Sequence[str]) -> str:
    """Join names for a message, the first few of many."""
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"
