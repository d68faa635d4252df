"""Three steps of the original optimiser on the original network."""

import numpy as np
import pytest

from mim3d.compat.tensorflow import to_parameter, variable_names
from mim3d.nn import OriginalAdam


@pytest.mark.parametrize("name", ["t2d", "t3d"])
def test_training_steps_are_the_originals(golden, name):
    case = golden(name)
    network = case.network()
    learning_rate = case.meta["lr"]
    optimizer = OriginalAdam(network.parameters(), learning_rate)
    parameters = dict(network.named_parameters())
    names = variable_names(network)
    for step, (frames, token) in enumerate(zip(case.frames, case.token, strict=True)):
        optimizer.zero_grad()
        loss = 0.5 * (network.unroll(frames, case.input_length, token) - frames[:, 1:]).square().sum()
        # The original reports the loss per sequence, but follows the gradient of the sum.
        np.testing.assert_allclose(loss.item() / len(frames), case.arrays["loss"][step], rtol=2e-5)
        loss.backward()
        optimizer.step()
        if f"change{step + 1}" not in case.arrays:
            continue
        differences = []
        for variable, change in case.by_name(case.arrays[f"change{step + 1}"].astype(np.float32)).items():
            expected = to_parameter(variable, case.variables[variable] + change)
            found = parameters[names[variable]].detach().numpy()
            differences.append(np.abs(found - expected).ravel())
        difference = np.concatenate(differences)
        # Where a gradient is nothing but rounding, the step's sign is chance.
        assert np.mean(difference > 2e-5) < 5e-4
        assert difference.max() < 3 * learning_rate
        assert case.arrays[f"change{step + 1}"].std() > 1e-4
