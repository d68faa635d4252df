"""Scaling is reversible, fitted in one pass, and survives JSON."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mim3d.data import Scaling, symmetries
from mim3d.errors import UserError

CHANNELS = ("density", "velocity_x", "velocity_y", "velocity_z", "potential", "site")
KINDS = ("log", "asinh", "asinh", "asinh", "linear", "none")


def clips(count=4):
    """Channels of very different sizes `(T, C, *space)`."""
    random = np.random.default_rng(0)
    for _ in range(count):
        shape = (3, 4, 4, 4)
        yield np.stack(
            [
                10 ** random.normal(-2, 1.5, shape),
                *(random.normal(0, 40, (3, *shape))),
                random.normal(1e6, 1e3, shape),
                random.uniform(size=shape),
            ],
            axis=1,
        )


@pytest.fixture(scope="module")
def scaling():
    return Scaling.fit(clips(), CHANNELS, KINDS, vectors=[(1, 2, 3)])


def test_fitted_channels_are_of_order_one(scaling):
    scaled = np.concatenate([scaling.forward(clip) for clip in clips()])
    for number in (0, 4):
        assert scaled[:, number].mean() == pytest.approx(0, abs=1e-9)
        assert scaled[:, number].std() == pytest.approx(1)
    assert 0.3 < np.abs(scaled[:, 1:4]).mean() < 1.5
    np.testing.assert_array_equal(scaled[:, 5], np.concatenate(list(clips()))[:, 5])


def test_constants_do_not_depend_on_how_the_data_are_cut(scaling):
    whole = np.concatenate(list(clips()))
    for cut in (whole[None], list(whole), [torch.from_numpy(whole)], [whole[:1], whole[1:]]):
        other = Scaling.fit(cut, CHANNELS, KINDS, vectors=[(1, 2, 3)])
        np.testing.assert_allclose(other.offset, scaling.offset, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(other.scale, scaling.scale, rtol=1e-10)


@settings(deadline=None, max_examples=30)
@given(
    st.floats(1e-12, 1e12),
    st.lists(st.floats(-1e5, 1e5, width=32), min_size=3, max_size=3),
    st.floats(-1e7, 1e7),
)
def test_inverse_undoes_forward(density, velocity, potential):
    scaling = Scaling.fit(clips(1), CHANNELS, KINDS, vectors=[(1, 2, 3)])
    values = np.array([density, *velocity, potential, 0.5]).reshape(6, 1, 1, 1)
    np.testing.assert_allclose(scaling.inverse(scaling.forward(values)), values, rtol=1e-9, atol=1e-9)


def test_numpy_and_torch_agree_and_keep_their_type(scaling):
    clip = next(clips(1))
    expected = scaling.forward(clip)
    tensor = torch.from_numpy(clip)
    np.testing.assert_allclose(scaling.forward(tensor), expected, rtol=1e-12)
    single = scaling.forward(tensor.float())
    assert single.dtype == torch.float32
    assert scaling.forward(clip.astype("f4")).dtype == np.float32
    np.testing.assert_allclose(scaling.inverse(single), clip, rtol=2e-5, atol=1e-3)


def test_asinh_keeps_signs_and_small_values():
    scaling = Scaling(("velocity",), ("asinh",), (0.0,), (2.0,))
    values = np.array([-1e8, -3.0, -1e-9, 0.0, 1e-9, 3.0, 1e8]).reshape(1, -1)
    np.testing.assert_allclose(scaling.forward(values, num_axes=1), np.arcsinh(values / 2), rtol=1e-12)


def test_leading_axes_are_free(scaling):
    clip = np.stack(list(clips(2)))
    batch = scaling.forward(clip)
    np.testing.assert_array_equal(batch[1, 2], scaling.forward(clip[1, 2]))
    image = Scaling(("red",), ("linear",), (1.0,), (2.0,))
    np.testing.assert_array_equal(image.forward(np.ones((5, 1, 8, 8)), num_axes=2), 0)


def test_gradients_pass_through(scaling):
    clip = torch.from_numpy(next(clips(1))).requires_grad_()
    scaling.inverse(scaling.forward(clip)).sum().backward()
    torch.testing.assert_close(clip.grad, torch.ones_like(clip))


def test_scaling_and_turning_change_places(scaling):
    clip = next(clips(1))
    for symmetry in symmetries.CUBE[::5]:
        np.testing.assert_allclose(
            scaling.forward(symmetries.apply(clip, symmetry, [(1, 2, 3)])),
            symmetries.apply(scaling.forward(clip), symmetry, [(1, 2, 3)]),
            rtol=1e-12,
        )


def test_json_keeps_every_bit(scaling):
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_fitting_leaves_the_data_alone():
    clip = next(clips(1))
    before = clip.copy()
    Scaling.fit([clip], CHANNELS, KINDS)
    np.testing.assert_array_equal(clip, before)


def test_some_channels_can_be_selected(scaling):
    part = scaling.select(["site", "density"])
    clip = next(clips(1))
    np.testing.assert_array_equal(part.forward(clip[:, [5, 0]]), scaling.forward(clip)[:, [5, 0]])
    with pytest.raises(UserError, match="no scaling for 'entropy'"):
        scaling.select(["entropy"])


def test_a_channel_that_never_changes_stays_finite():
    scaling = Scaling.fit([np.full((2, 1, 4, 4, 4), 3.0)], ["density"], ["log"])
    np.testing.assert_allclose(scaling.forward(np.full((1, 4, 4, 4), 3.0)), 0, atol=1e-12)
    assert scaling.scale == (1.0,)


def test_identity():
    values = np.random.default_rng(0).normal(size=(2, 3, 3, 3))
    np.testing.assert_array_equal(Scaling.identity(["a", "b"]).forward(values), values)


@pytest.mark.parametrize("bad", [0.0, -0.3, np.nan])
def test_what_has_no_logarithm_is_refused(scaling, bad):
    clip = next(clips(1))
    clip[0, 0, 1, 2, 3] = bad
    with pytest.raises(UserError, match="density must be > 0 everywhere"):
        scaling.forward(clip)
    with pytest.raises(UserError, match="density"):
        Scaling.fit([clip], CHANNELS, KINDS)


def test_misuse_is_named(scaling):
    with pytest.raises(UserError, match="no data"):
        Scaling.fit([], ["density"], ["log"])
    with pytest.raises(UserError, match="as many kinds"):
        Scaling.fit(clips(), CHANNELS, ["log"])
    with pytest.raises(UserError, match=r"1 channels are named, an array has 6"):
        Scaling.fit(clips(), ["density"], ["log"])
    with pytest.raises(UserError, match=r"6 channels are scaled .*shape is \(2, 4, 4, 4\)"):
        scaling.forward(np.ones((2, 4, 4, 4)))
    with pytest.raises(UserError, match="'sqrt' of 'density' is unknown"):
        Scaling(("density",), ("sqrt",), (0.0,), (1.0,))
    with pytest.raises(UserError, match=r"unusable: offset 0\.0, scale 0\.0"):
        Scaling(("density",), ("log",), (0.0,), (0.0,))
    with pytest.raises(UserError, match="not the description of a scaling"):
        Scaling.from_dict({"channels": ["density"]})


def test_the_range_of_the_data_is_kept():
    data = np.array([[[1.0, 10.0]], [[-3.0, 1.0]]])  # two channels on two voxels of one row
    scaling = Scaling.fit([data], ("density", "velocity_x"), ("log", "asinh"), num_axes=2, vectors=[(1,)])
    np.testing.assert_allclose(scaling.low, [-1.0, -np.arcsinh(3.0 / 2.0)], rtol=1e-6)
    np.testing.assert_allclose(scaling.high, [1.0, np.arcsinh(3.0 / 2.0)], rtol=1e-6)
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling
    assert scaling.select(["velocity_x"]).high == scaling.high[1:]


def test_an_unknown_range_is_infinite_and_stays_out_of_json():
    scaling = Scaling.identity(["mask"])
    assert (scaling.low, scaling.high) == ((-np.inf,), (np.inf,))
    text = json.dumps(scaling.to_dict(), allow_nan=False)
    assert Scaling.from_dict(json.loads(text)) == scaling
    assert (
        Scaling.from_dict({k: v for k, v in scaling.to_dict().items() if k not in ("low", "high")}) == scaling
    )
