"""The networks written down plainly: every equation by itself, in float32, nothing fused or reused.

It takes the weights of a `mim3d.nn` network by name, so that both compute the same numbers. What a faster way
of computing gains is its time over this one's, in the same process.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from mim3d.nn import MIM, MultiscaleMIM, RecurrentForecaster, depth_to_space, space_to_depth

Weights = Mapping[str, Tensor]
State = dict[str, Tensor]
"""Hidden and cell states by name of the cell that they belong to."""


def forecast(network: RecurrentForecaster, frames: Tensor, steps: int) -> Tensor:
    """Forecast as `RecurrentForecaster.forecast` does: `(B, T_in, C, *space)` to `(B, steps, C, *space)`."""
    state: State = {}
    frame = frames[:, 0]
    for t in range(frames.shape[1]):
        frame = step(network, frames[:, t], state)
    future = [frame]
    for _ in range(steps - 1):
        future.append(step(network, future[-1], state))
    return torch.stack(future, 1)


def unroll(network: RecurrentForecaster, frames: Tensor, input_length: int) -> Tensor:
    """Forecast every next frame as `RecurrentForecaster.unroll` does, without scheduled sampling."""
    state: State = {}
    outputs: list[Tensor] = []
    for t in range(frames.shape[1] - 1):
        outputs.append(step(network, frames[:, t] if t < input_length else outputs[-1], state))
    return torch.stack(outputs, 1)


def step(network: RecurrentForecaster, frame: Tensor, state: State) -> Tensor:
    """Take one step; `state`, empty at first, is brought up to date."""
    weights = dict(network.named_parameters())
    axes = network.num_axes
    if type(network) is MIM:
        x = space_to_depth(frame, network.patch_size, axes)
        x = _stack(weights, x, state, len(network.hidden_channels))
        output = depth_to_space(_convolve(weights, "to_frame", x), network.patch_size, axes)
    elif type(network) is MultiscaleMIM:
        x = space_to_depth(frame, network.patch_size, axes)
        skips = []
        for stage in range(len(network.encoder_channels)):
            x = functional.gelu(_convolve(weights, f"encoder.{stage}", x, stride=1 if stage == 0 else 2))
            skips.append(x)
        x = _stack(weights, x, state, len(network.hidden_channels))
        for stage in range(len(network.encoder_channels)):
            if stage > 0:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = functional.gelu(_convolve(weights, f"decoder.{stage}", torch.cat((x, skips.pop()), 1)))
        output = depth_to_space(_convolve(weights, "to_frame", x), network.patch_size, axes)
    else:
        raise TypeError(f"no plain form of {type(network).__name__}")
    if network.residual:
        output = output + frame[:, : network.dynamic_channels]
    return torch.cat((output, frame[:, network.dynamic_channels :]), 1)


def _stack(w: Weights, x: Tensor, state: State, layers: int) -> Tensor:
    is_first = not state
    if is_first:
        hidden_channels = w["stack.first.reduce.conv.weight"].shape[0]
        zeros = x.new_zeros(x.shape[0], hidden_channels, *x.shape[2:])
        names = ["stack.first hidden", "stack.first cell", "memory"]
        names += [f"{cell} {kind}" for cell, kind in _upper_states(layers)]
        state.update(dict.fromkeys(names, zeros))
    before = state["stack.first hidden"]
    _spatiotemporal_lstm(w, x, state)
    hidden = state["stack.first hidden"]
    difference = torch.zeros_like(hidden) if is_first else hidden - before
    for layer in range(layers - 1):
        cell = f"stack.differences.{layer}"
        if not is_first:
            difference, state[f"{cell} cell"] = _peephole_lstm(
                w, cell, difference, state[f"{cell} hidden"], state[f"{cell} cell"]
            )
            state[f"{cell} hidden"] = difference
        hidden = _mim_block(w, f"stack.blocks.{layer}", hidden, difference, state)
    return hidden


def _upper_states(layers: int) -> list[tuple[str, str]]:
    blocks = [
        (f"stack.blocks.{k}", kind) for k in range(layers - 1) for kind in ("hidden", "cell", "stationary")
    ]
    return blocks + [
        (f"stack.differences.{k}", kind) for k in range(layers - 1) for kind in ("hidden", "cell")
    ]


def _spatiotemporal_lstm(w: Weights, x: Tensor, state: State) -> None:
    cell = "stack.first"
    i_x, g_x, f_x, o_x = _gates(w, f"{cell}.from_input", x, 4)
    i_h, g_h, f_h, o_h = _gates(w, f"{cell}.from_hidden", state[f"{cell} hidden"], 4)
    i_m, g_m, f_m, o_m = _gates(w, f"{cell}.from_memory", state["memory"], 4)
    new_cell = torch.sigmoid(f_x + f_h + 1) * state[f"{cell} cell"]
    new_cell = new_cell + torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)
    memory = torch.sigmoid(f_x + f_m + 1) * state["memory"]
    memory = memory + torch.sigmoid(i_x + i_m) * torch.tanh(g_x + g_m)
    output = torch.tanh(_convolve(w, f"{cell}.reduce.conv", torch.cat((new_cell, memory), 1)))
    state[f"{cell} hidden"] = torch.sigmoid(o_x + o_h + o_m) * output
    state[f"{cell} cell"], state["memory"] = new_cell, memory


def _mim_block(w: Weights, cell: str, x: Tensor, difference: Tensor, state: State) -> Tensor:
    i_x, g_x, f_x, o_x = _gates(w, f"{cell}.from_input", x, 4)
    i_h, g_h, o_h = _gates(w, f"{cell}.from_hidden", state[f"{cell} hidden"], 3)
    i_m, g_m, f_m, o_m = _gates(w, f"{cell}.from_memory", state["memory"], 4)
    trend, stationary = _peephole_lstm(
        w, f"{cell}.stationary", difference, state[f"{cell} cell"], state[f"{cell} stationary"]
    )
    new_cell = trend + torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)
    memory = torch.sigmoid(f_x + f_m + 1) * state["memory"]
    memory = memory + torch.sigmoid(i_x + i_m) * torch.tanh(g_x + g_m)
    output = torch.tanh(_convolve(w, f"{cell}.reduce.conv", torch.cat((new_cell, memory), 1)))
    hidden = torch.sigmoid(o_x + o_h + o_m) * output
    state[f"{cell} hidden"], state[f"{cell} cell"] = hidden, new_cell
    state[f"{cell} stationary"], state["memory"] = stationary, memory
    return hidden


def _peephole_lstm(w: Weights, cell: str, x: Tensor, hidden: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    i_x, g_x, f_x, o_x = _gates(w, f"{cell}.from_input", x, 4)
    i_h, g_h, f_h, o_h = _gates(w, f"{cell}.from_hidden", hidden, 4)
    i, f, o = i_x + i_h, f_x + f_h, o_x + o_h
    if f"{cell}.gate_peephole" in w:
        i_c, f_c = w[f"{cell}.gate_peephole"].chunk(2)
        i, f = i + i_c * old, f + f_c * old
    new = torch.sigmoid(f + 1) * old + torch.sigmoid(i) * torch.tanh(g_x + g_h)
    if f"{cell}.output_peephole" in w:
        o = o + w[f"{cell}.output_peephole"] * new
    return torch.sigmoid(o) * torch.tanh(new), new


def _gates(w: Weights, name: str, x: Tensor, count: int) -> tuple[Tensor, ...]:
    x = _convolve(w, f"{name}.conv", x)
    if f"{name}.norm.weight" in w:
        over = tuple(range(1, x.ndim))
        mean = x.mean(over, keepdim=True)
        variance = (x - mean).square().mean(over, keepdim=True)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        x = (x - mean) / torch.sqrt(variance + 1e-5)
        x = x * w[f"{name}.norm.weight"].view(shape) + w[f"{name}.norm.bias"].view(shape)
    return x.chunk(count, 1)


def _convolve(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = w[f"{name}.weight"]
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.ndim - 3]
    kernel = weight.shape[-1]
    if kernel % 2 == 0:
        x = functional.pad(x, (0, 1) * (weight.ndim - 2))
    return convolve(x, weight, w.get(f"{name}.bias"), stride, (kernel - 1) // 2)
