from pathlib import Path

import numpy as np
import pytest
import torch

from mim3d.compat.tensorflow import load_variables, network_settings, read_checkpoint, variable_names
from mim3d.nn import MIM

GOLDEN = Path(__file__).parents[1] / "golden"
CHECKPOINT = GOLDEN / "checkpoint3d" / "model.ckpt-7"


@pytest.fixture(scope="module")
def variables():
    return read_checkpoint(CHECKPOINT)


def make(variables, **changes) -> MIM:
    return MIM(**(network_settings(variables) | changes))


def test_optimiser_and_averages_are_left_out(variables):
    assert len(variables) == 50
    assert all(name.startswith("predrnn/") and "Average" not in name for name in variables)


def test_moving_averages_are_read_where_asked_for(variables):
    averages = read_checkpoint(CHECKPOINT, average=True)
    assert averages.keys() == variables.keys()
    assert all(averages[name].shape == variables[name].shape for name in variables)
    assert not np.allclose(
        averages["predrnn/back_to_pixel/kernel"], variables["predrnn/back_to_pixel/kernel"]
    )


def test_settings_are_read_off_the_shapes(variables):
    assert network_settings(variables) == {
        "in_channels": 1,
        "hidden_channels": [4, 4],
        "kernel_size": 3,
        "num_axes": 3,
        "grid": [6, 6, 4],
        "patch_size": 1,
        "layer_norm": True,
        "peephole": "voxel",
        "residual": False,
        "static_channels": 0,
    }


def test_patch_and_grid_complete_each_other():
    variables = read_checkpoint(GOLDEN / "checkpoint2d" / "model.ckpt-7")
    by_patch = network_settings(variables, patch_size=2)
    assert by_patch == network_settings(variables, grid=(8, 8)) == network_settings(variables, 2, (8, 8))
    assert by_patch["grid"] == [8, 8]
    assert by_patch["in_channels"] == 2
    assert network_settings(variables)["in_channels"] == 8
    with pytest.raises(
        ValueError, match=r"grid \(8, 12\) and patch_size 2 do not fit .* a grid of \(4, 4\) patches"
    ):
        network_settings(variables, grid=(8, 12))
    with pytest.raises(ValueError, match=r"patch_size 3 does not fit: the network takes 8 channels"):
        network_settings(variables, patch_size=3)


def test_network_of_one_layer(variables):
    one = {name: array for name, array in variables.items() if "stlstm_1/" in name or "back_to_pixel" in name}
    network = make(one)
    assert network.hidden_channels == (4,)
    load_variables(network, one)


def test_every_variable_lands_in_its_own_parameter(variables):
    network = make(variables)
    names = variable_names(network)
    assert names.keys() == variables.keys()
    assert len(set(names.values())) == len(names)
    for mark, (name, array) in enumerate(variables.items(), start=1):
        load_variables(network, variables | {name: np.full_like(array, mark)})
        for parameter, tensor in network.named_parameters():
            assert bool((tensor == mark).all()) == (parameter == names[name])


def test_names_may_end_in_colon_zero(variables):
    network, other = make(variables), make(variables)
    load_variables(network, variables)
    load_variables(other, {f"{name}:0": array for name, array in variables.items()})
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_wrong_variables_are_named_and_nothing_is_loaded(variables):
    network = make(variables)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    broken = dict(variables)
    broken["predrnn/extra"] = np.zeros(3)
    broken["predrnn/back_to_pixel/bias"] = np.zeros(7)
    del broken["predrnn/stlstm_1/input_to_states"]
    with pytest.raises(ValueError, match="TensorFlow variables do not fit the network") as error:
        load_variables(network, broken)
    message = str(error.value)
    assert "missing predrnn/stlstm_1/input_to_states" in message
    assert "unexpected predrnn/extra" in message
    assert "wrong shape predrnn/back_to_pixel/bias (7,) for the network's (1,) of to_frame.bias" in message
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_long_lists_are_cut(variables):
    with pytest.raises(ValueError, match=r"missing .* and 45 more"):
        load_variables(make(variables), {})
    with pytest.raises(ValueError, match=r"unexpected .*stlstm_diff1/c_t_weight"):
        load_variables(make(variables, peephole="none"), variables)


def test_other_checkpoints_are_refused(tmp_path, variables):
    with pytest.raises(
        ValueError, match="no variable 'predrnn/stlstm_1/input_to_state/kernel' among the 1 given"
    ):
        network_settings({"w": np.zeros(3)})
    with pytest.raises(ValueError, match="no TensorFlow checkpoint"):
        read_checkpoint(tmp_path / "model.ckpt")


def test_loading_makes_sums_exact_unless_told_not_to(variables):
    network = make(variables)
    for exact in (True, False):
        load_variables(network, variables, exact=exact)
        assert network.to_frame.exact_sums == exact
