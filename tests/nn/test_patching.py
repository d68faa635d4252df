from pathlib import Path

import numpy as np
import pytest
import torch

from mim3d.nn import depth_to_space, space_to_depth

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("k", range(4))
def test_patches_are_the_originals(axes, k):
    with np.load(GOLDEN / f"m{axes}d_misc.npz", allow_pickle=False) as file:
        size = int(file[f"patch{k}/size"])
        arrays = {
            name: torch.from_numpy(np.moveaxis(file[f"patch{k}/{name}"], -1, 2).copy())
            for name in ("in", "out", "back_in", "back_out")
        }
    assert torch.equal(space_to_depth(arrays["in"], size, axes), arrays["out"])
    assert torch.equal(depth_to_space(arrays["back_in"], size, axes), arrays["back_out"])
    assert torch.equal(depth_to_space(arrays["out"], size, axes), arrays["in"])


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_back_and_forth_gives_the_same(axes, lead):
    x = torch.randn(*lead, 2, *(4, 6, 8)[:axes])
    patches = space_to_depth(x, 2, axes)
    assert patches.shape == (*lead, 2 * 2**axes, *(2, 3, 4)[:axes])
    assert torch.equal(depth_to_space(patches, 2, axes), x)


def test_a_channel_is_one_place_in_every_patch():
    x = torch.zeros(1, 4, 4)
    x[0, 1::2, 0::2] = 1
    assert torch.equal(space_to_depth(x, 2, 2)[2], torch.ones(2, 2))
    assert space_to_depth(x, 2, 2).sum() == 4


def test_grid_that_patches_do_not_fill_is_named():
    with pytest.raises(
        ValueError, match=r"grid \(4, 6, 5\) is not divisible by patch_size 2: axis 2 .* 5 voxels"
    ):
        space_to_depth(torch.zeros(1, 4, 6, 5), 2, 3)


def test_channels_that_fill_no_patch_are_named():
    with pytest.raises(ValueError, match=r"6 channels are not divisible by patch_size\*\*num_axes = 8"):
        depth_to_space(torch.zeros(6, 2, 2, 2), 2, 3)


def test_too_few_axes_are_named():
    with pytest.raises(ValueError, match=r"2 axes of space, found shape \(4, 4\)"):
        space_to_depth(torch.zeros(4, 4), 2, 2)
