"""The symmetries form the group they should, and turn fields and vectors as rotations do."""

import numpy as np
import pytest
import torch

from mim3d.data import symmetries
from mim3d.data.symmetries import CUBE, LINE, SQUARE, Symmetry
from mim3d.errors import UserError

GROUPS = {1: LINE, 2: SQUARE, 3: CUBE}


def positions(count: int, axes: int) -> np.ndarray:
    """Voxel centres `(axes, *space)` in a box from -1 to 1."""
    centres = (np.arange(count) + 0.5) * 2 / count - 1
    return np.stack(np.meshgrid(*[centres] * axes, indexing="ij"))


def scalar(r: np.ndarray) -> np.ndarray:
    """Any function without symmetries of its own."""
    weights = np.array([1.3, -0.7, 2.1])[: len(r)]
    phase = np.tensordot(weights, r, 1)
    return np.sin(phase) + 0.3 * r[0] ** 2 + 0.1 * r[-1] ** 3


def vector(r: np.ndarray) -> np.ndarray:
    """Any vector field without symmetries of its own."""
    return np.stack([np.cos((axis + 1) * r[axis] + 0.5 * r[axis - 1]) + 0.2 * axis for axis in range(len(r))])


@pytest.mark.parametrize(("axes", "order"), [(1, 2), (2, 8), (3, 48)])
def test_order_identity_and_determinants(axes, order):
    elements = GROUPS[axes]
    assert len(set(elements)) == order
    np.testing.assert_array_equal(elements[0].matrix, np.eye(axes))
    determinants = [round(np.linalg.det(element.matrix)) for element in elements]
    assert determinants.count(1) == determinants.count(-1) == order // 2


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_group_is_closed_and_products_and_inverses_are_those_of_the_matrices(axes):
    elements = set(GROUPS[axes])
    for first in elements:
        np.testing.assert_array_equal(first.inverse.matrix, first.matrix.T)
        assert first.inverse in elements
        for second in elements:
            product = second @ first
            assert product in elements
            np.testing.assert_array_equal(product.matrix, second.matrix @ first.matrix)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_analytic_fields_turn_as_rotations_say(axes, library):
    """f'(r) = f(M^-1 r) and v'(r) = M v(M^-1 r), for every element M of the group."""
    r = positions(6, axes)
    fields = np.concatenate([vector(r), scalar(r)[None]])
    components = tuple(range(axes))
    for element in GROUPS[axes]:
        back = np.tensordot(element.matrix.T, r, 1)
        expected = np.concatenate([np.tensordot(element.matrix, vector(back), 1), scalar(back)[None]])
        given = torch.from_numpy(fields) if library == "torch" else fields
        turned = symmetries.apply(given, element, [components])
        np.testing.assert_allclose(turned, expected, atol=1e-12)


def test_inverse_undoes_and_products_compose():
    fields = np.random.default_rng(0).normal(size=(2, 3, 5, 4, 4, 4))
    vectors = [(1, 2, 3)]
    for number, element in enumerate(CUBE):
        turned = symmetries.apply(fields, element, vectors)
        np.testing.assert_array_equal(symmetries.apply(turned, element.inverse, vectors), fields)
        other = CUBE[(7 * number + 5) % 48]
        np.testing.assert_array_equal(
            symmetries.apply(turned, other, vectors), symmetries.apply(fields, other @ element, vectors)
        )


@pytest.mark.parametrize("axes", [2, 3])
def test_divergence_is_a_scalar(axes):
    """Turning a flow and taking its divergence are the same in either order; so is its magnitude."""
    random = np.random.default_rng(0)
    flow = random.normal(size=(axes, *(8,) * axes))

    def divergence(velocity):
        return sum(
            np.roll(velocity[axis], -1, axis) - np.roll(velocity[axis], 1, axis) for axis in range(axes)
        )

    for element in GROUPS[axes]:
        turned = symmetries.apply(flow, element, [tuple(range(axes))])
        np.testing.assert_allclose(
            divergence(turned), symmetries.apply(divergence(flow)[None], element)[0], atol=1e-12
        )
        np.testing.assert_allclose(
            (turned**2).sum(0), symmetries.apply((flow**2).sum(0)[None], element)[0], atol=1e-12
        )


def test_components_left_as_scalars_break_the_divergence():
    """The test above would notice vectors that are not turned."""
    flow = np.random.default_rng(0).normal(size=(3, 4, 4, 4))
    quarter = Symmetry((1, 0, 2), (True, False, False))
    assert not np.allclose(symmetries.apply(flow, quarter), symmetries.apply(flow, quarter, [(0, 1, 2)]))


def test_unequal_sides_change_places():
    fields = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    swap = Symmetry((2, 0, 1), (False, True, False))
    assert symmetries.apply(fields, swap).shape == (2, 5, 3, 4)
    assert not swap.keeps((3, 4, 5))
    assert sum(element.keeps((4, 4, 5)) for element in CUBE) == 16
    assert sum(element.keeps((3, 4, 5)) for element in CUBE) == 8


def test_the_result_is_a_copy():
    fields = np.ones((1, 4, 4, 4))
    symmetries.apply(fields, CUBE[0])[:] = 0
    tensor = torch.ones(1, 4, 4, 4)
    symmetries.apply(tensor, CUBE[0])[:] = 0
    assert fields.all()
    assert tensor.all()


def test_misuse_is_named():
    with pytest.raises(UserError, match="not a symmetry"):
        Symmetry((0, 0, 1), (False, False, False))
    with pytest.raises(UserError, match=r"3 components here, channels \(0, 1\)"):
        symmetries.apply(np.ones((2, 4, 4, 4)), CUBE[1], [(0, 1)])
    with pytest.raises(UserError, match=r"shape \(4, 4, 4\)"):
        symmetries.apply(np.ones((4, 4, 4)), CUBE[1])
