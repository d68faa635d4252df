"""From the members' spread to the error: on made-up errors whose size is known."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from mim3d.errors import UserError
from mim3d.metrics import Reliability
from mim3d.trust import SpreadFit, SpreadScale
from mim3d.trust.spread import regions, spread_values


def errors(seed, shape=(3, 20, 20, 20)):
    """Errors that grow with the square root of the spread, and with lead time."""
    random = np.random.default_rng(seed)
    spread = 10 ** random.uniform(-3, -1, shape)
    deviation = 2 * np.sqrt(spread) * np.array([1, 2, 3])[:, None, None, None]
    # Members agree as well in the affected gas, and are more wrong, most at its edge.
    region = regions(random.choice([0.0, 0.5, 1.0], shape))
    deviation = deviation * np.array([1.0, 3.0, 2.0])[region]
    return spread, deviation * random.normal(size=shape), deviation, region


NOWHERE = np.zeros((3, 20, 20, 20), dtype=np.int64)


@pytest.fixture(scope="module")
def scale():
    fit = SpreadFit(3)
    for seed in range(4):
        spread, error, _, region = errors(seed)
        fit.accumulate("density", spread, error, region)
    return fit.compute()


def test_the_true_deviation_is_found_at_every_spread_and_time(scale):
    spread, _, deviation, region = errors(10)
    found = scale.apply("density", spread, region)
    assert found.shape == spread.shape
    np.testing.assert_allclose(found, deviation, rtol=0.25)


def test_intervals_hold_what_they_say_on_other_clouds(scale):
    spread, error, _, region = errors(11)
    score = Reliability.start(3)
    score.accumulate(error, scale.apply("density", spread, region))
    coverage = score.compute()
    assert coverage.shares.shape == (19, 3)
    np.testing.assert_allclose(coverage.at(0.9), 0.9, atol=0.02)
    np.testing.assert_allclose(coverage.at(0.5), 0.5, atol=0.03)
    raw = Reliability.start(3)
    raw.accumulate(error, spread)
    assert (raw.compute().at(0.9) < 0.5).all()


def test_coverage_by_hand_and_merged():
    first, second = Reliability.start(1), Reliability.start(1)
    width = norm.ppf(0.95)
    first.accumulate(width * np.array([[0.99, 1.01, -0.5, np.nan]]), np.ones((1, 4)))
    second.accumulate(np.zeros((1, 1)), np.ones((1, 1)))
    assert first.compute().at(0.9)[0] == pytest.approx(2 / 3)
    merged = first.merge(second)
    assert merged.compute().at(0.9)[0] == pytest.approx(3 / 4)
    assert merged.overall().at(0.9)[0] == pytest.approx(3 / 4)
    assert np.isnan(Reliability.start(1).compute().shares).all()


def test_later_times_take_the_last_and_unknown_channels_stay(scale):
    spread, _, _, region = errors(12)
    longer, places = (np.concatenate([each, each[-1:]]) for each in (spread, region))
    found = scale.apply("density", longer, places)
    np.testing.assert_array_equal(found[3], found[2])
    assert scale.apply("velocity_x", spread, region) is spread


def test_a_region_that_was_never_seen_takes_what_holds_everywhere():
    fit = SpreadFit(3)
    spread, error, _, _ = errors(0)
    fit.accumulate("density", spread, error, NOWHERE)
    scale = fit.compute()
    np.testing.assert_array_equal(
        scale.apply("density", spread, NOWHERE + 2), scale.apply("density", spread, NOWHERE)
    )


def test_a_scale_survives_json_and_damage_is_named(scale):
    again = SpreadScale.from_dict(json.loads(json.dumps(scale.to_dict())))
    spread, _, _, region = errors(13)
    np.testing.assert_allclose(
        again.apply("density", spread, region), scale.apply("density", spread, region), rtol=2e-3
    )
    older = np.zeros((19, 40)).tolist()
    for damage in ({"density": [[1.0]]}, {"density": "x"}, {"density": older}):
        with pytest.raises(UserError, match="damaged"):
            SpreadScale.from_dict(damage)


def test_densities_are_averaged_in_their_logarithm():
    np.testing.assert_allclose(spread_values("density", np.array([10.0, 1000.0])), [1, 3])
    np.testing.assert_allclose(spread_values("velocity_x", np.array([-10.0, 10.0])), [-10, 10])
