"""Outputs, gradients and states of the original programs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mim3d.compat.tensorflow import to_parameter, variable_names

FOLDER = Path(__file__).parent
CASES = [f"g{axes}d_{letter}" for axes in (2, 3) for letter in "abcdef"]
WITH_GRADIENTS = [
    "g2d_a", "g2d_b", "g2d_c", "g2d_e", "g3d_a", "g3d_b", "g3d_c", "g3d_e", "g3d_f",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_the_originals(golden, patches, name):
    case = golden(name)
    network = case.network()
    frames = case.frames
    with torch.no_grad():
        fed = network.unroll(frames, case.input_length, case.token)
        alone = network(frames, case.input_length)
    np.testing.assert_allclose(patches(network, fed), case.arrays["outputs"], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(
        patches(network, alone), case.arrays["outputs_zero_mask"], atol=1e-4, rtol=1e-4
    )
    losses = [0.5 * (output - frames[:, 1:]).square().sum().item() for output in (fed, alone)]
    np.testing.assert_allclose(losses, case.arrays["loss"], rtol=2e-6)


@pytest.mark.parametrize("name", ["g2d_a", "g2d_f", "g3d_b", "g3d_e"])
def test_forecast_is_the_end_of_the_unroll_without_true_frames(golden, patches, name):
    case = golden(name)
    network = case.network()
    frames = case.frames
    steps = frames.shape[1] - case.input_length
    with torch.no_grad():
        forecast = network.forecast(frames[:, : case.input_length], steps)
    expected = case.arrays["outputs_zero_mask"][:, -steps:]
    np.testing.assert_allclose(patches(network, forecast), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_are_the_originals(golden, kept, name):
    case = golden(name)
    network = case.network()
    frames = case.frames
    outputs = network.unroll(frames, case.input_length, case.token)
    (0.5 * (outputs - frames[:, 1:]).square().sum()).backward()
    parameters = dict(network.named_parameters())
    names = variable_names(network)
    assert set(names) == set(case.variables)
    assert set(names.values()) == set(parameters)
    start = 0
    for k, (variable, array) in enumerate(case.variables.items()):
        # The recording's elements are numbered in TensorFlow's layout: find out where they are in ours.
        places = to_parameter(variable, np.arange(array.size).reshape(array.shape)).ravel()
        gradient = np.empty(array.size, np.float32)
        gradient[places] = parameters[names[variable]].grad.numpy().ravel()
        indices = kept(array.size)
        expected = case.arrays["gradient_sample"][start : start + indices.size]
        start += indices.size
        largest = case.arrays["gradient_max"][k]
        np.testing.assert_allclose(gradient[indices], expected, atol=2e-4 * largest, rtol=0, err_msg=variable)
        np.testing.assert_allclose(np.abs(gradient).max(), largest, rtol=2e-4, err_msg=variable)
        norm = np.linalg.norm(gradient.astype(np.float64))
        np.testing.assert_allclose(norm, case.arrays["gradient_norm"][k], rtol=2e-4, err_msg=variable)
    assert start == case.arrays["gradient_sample"].size


@pytest.mark.parametrize("name", ["g2d_e", "g3d_e"])
def test_states_are_the_originals(golden, name):
    case = golden(name)
    network = case.network()
    frames = case.frames
    state = output = None
    compared = 0
    for step in range(frames.shape[1] - 1):
        frame = frames[:, step]
        if step >= case.input_length:
            keep = case.token[:, step - case.input_length].reshape(-1, *(1,) * (frame.ndim - 1))
            frame = keep * frame + (1 - keep) * output
        with torch.no_grad():
            output, state = network.step(frame, state)
        cells = {"stlstm_1/h": state.first.hidden, "stlstm_1/c": state.first.cell}
        for k, (block, difference) in enumerate(zip(state.blocks, state.differences, strict=True)):
            cells |= {
                f"stlstm_{k + 2}/h": block.hidden,
                f"stlstm_{k + 2}/c": block.cell,
                f"stlstm_{k + 2}/s": block.stationary,
            }
            # What the original computes here at the first step it throws away.
            if step:
                cells |= {
                    f"stlstm_diff{k + 1}/h": difference.hidden,
                    f"stlstm_diff{k + 1}/c": difference.cell,
                }
        cells[f"stlstm_{len(state.blocks) + 1}/m"] = state.memory
        for cell, tensor in cells.items():
            expected = case.arrays[f"inter/t{step}/{cell}"]
            found = np.moveaxis(tensor.numpy(), 1, -1)
            np.testing.assert_allclose(
                found, expected, atol=1e-5, rtol=1e-4, err_msg=f"{cell} at step {step}"
            )
            compared += 1
    assert compared == (frames.shape[1] - 1) * 9 + (frames.shape[1] - 2) * 4


@pytest.mark.parametrize("name", ["g2d_b", "g3d_e"])
def test_float64_network_is_the_originals_too(golden, patches, name):
    case = golden(name)
    network = case.network().double()
    with torch.no_grad():
        outputs = network.unroll(case.frames.double(), case.input_length, case.token)
    assert outputs.dtype == torch.float64
    np.testing.assert_allclose(patches(network, outputs), case.arrays["outputs"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["g2d_a", "g3d_b"])
def test_fast_sums_are_close(golden, patches, name):
    from mim3d.nn import set_exact_sums

    case = golden(name)
    network = case.network()
    set_exact_sums(network, False)
    with torch.no_grad():
        outputs = network.unroll(case.frames, case.input_length, case.token)
    np.testing.assert_allclose(patches(network, outputs), case.arrays["outputs"], atol=1e-3, rtol=1e-3)


def test_vectors_take_at_most_five_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 5e6
