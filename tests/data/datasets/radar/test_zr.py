"""Z = a R^b, both ways."""

import numpy as np
import pytest

from mim3d.data.datasets.radar import ZRRelation
from mim3d.errors import UserError


def test_marshall_and_palmer():
    relation = ZRRelation()
    # Z = 200 for 1 mm/h, and 200 * 10^1.6 for 10 mm/h.
    np.testing.assert_allclose(relation.reflectivity(np.array([1.0, 10.0])), [23.0103, 39.0103], atol=1e-4)
    np.testing.assert_allclose(
        relation.rain_rate(np.array([30.0, 40.0, 50.0])), [2.734, 11.53, 48.62], rtol=1e-3
    )


@pytest.mark.parametrize("relation", [ZRRelation(), ZRRelation(223, 1.53), ZRRelation(58.53, 1.56)])
def test_there_and_back(relation):
    rate = np.geomspace(0.01, 300, 20)
    np.testing.assert_allclose(relation.rain_rate(relation.reflectivity(rate)), rate)
    reflectivity = relation.reflectivity(np.array([0.0, np.nan]))
    assert reflectivity[0] == -np.inf
    np.testing.assert_array_equal(relation.rain_rate(reflectivity), [0, np.nan])


def test_constants_are_checked():
    for a, b in ((0, 1.6), (200, -1), (np.nan, 1.6), (200, np.inf)):
        with pytest.raises(UserError, match="must be > 0"):
            ZRRelation(a, b)
