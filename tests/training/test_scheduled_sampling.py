from pathlib import Path

import numpy as np
import pytest

from mim3d.training.scheduled_sampling import LinearScheduledSampling

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(params=[2, 3])
def recorded(request):
    with np.load(GOLDEN / f"m{request.param}d_misc.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name.startswith("ss")}


def test_short_schedule_is_the_originals(recorded):
    sampling = LinearScheduledSampling(start=1.0, rate=0.15, stop=6)
    assert [sampling.probability(k) for k in range(9)] == recorded["ss/eta"].tolist()


def test_default_schedule_is_the_originals_to_the_last_bit(recorded):
    sampling = LinearScheduledSampling()
    found = [sampling.probability(int(step) - 1) for step in recorded["ss_default/itr"]]
    assert found == recorded["ss_default/eta"].tolist()


def test_draws_are_the_originals(recorded):
    sampling = LinearScheduledSampling(start=1.0, rate=0.15, stop=6)
    random = np.random.RandomState(77)
    tokens = recorded["ss/token"]
    found = [sampling.draw(k, tokens.shape[1:], random) for k in range(len(tokens))]
    np.testing.assert_array_equal(found, tokens)
    assert found[0].dtype == np.float32


def test_draws_use_as_many_numbers_where_the_probability_is_zero():
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    assert not LinearScheduledSampling(start=0.0).draw(0, (4, 5), one).any()
    other.random((4, 5))
    assert one.random() == other.random()


def test_probability_never_leaves_zero_to_one():
    sampling = LinearScheduledSampling(start=0.5, rate=0.3, stop=1000)
    assert [round(sampling.probability(k), 12) for k in range(4)] == [0.2, 0, 0, 0]
    assert sampling.probability(10**9) == 0
    assert LinearScheduledSampling(start=0.5, rate=0, stop=10).probability(8) == 0.5
    assert LinearScheduledSampling(start=0.5, rate=0, stop=10).probability(9) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 1.5}, "start must be a probability, 0 to 1, found 1.5"),
        ({"rate": -0.1}, "rate must be at least 0, found -0.1"),
        ({"rate": float("nan")}, "rate must be at least 0, found nan"),
        ({"stop": -1}, "stop must be at least 0, found -1"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearScheduledSampling(**arguments)
