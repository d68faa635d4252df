"""Space to depth and back: patches of voxels become channels of a coarser grid."""

from __future__ import annotations

from torch import Tensor

from mim3d.errors import UserError


def space_to_depth(x: Tensor, patch_size: int, num_axes: int) -> Tensor:
    """Turn every patch of voxels into channels.

    Parameters
    ----------
    x
        `(..., C, *space)`.
    patch_size
        Voxels along every side of a patch, p.
    num_axes
        Axes of space, d.

    Returns
    -------
    torch.Tensor
        `(..., p**d * C, *(space / p))`. A channel's index counts the position in the patch first (the first
        axis of space slowest), the channel last, as in the original MIM programs.

    Raises
    ------
    UserError
        If the grid is not divisible by the patch.

    Examples
    --------
    >>> import torch
    >>> space_to_depth(torch.arange(4.0).reshape(1, 1, 4), 2, num_axes=1)
    tensor([[[0., 2.],
             [1., 3.]]])
    """
    if patch_size == 1:
        return x
    lead, channels, grid = _split_shape(x, num_axes)
    for axis, voxels in enumerate(grid):
        if voxels % patch_size:
            raise UserError(
                f"the grid {grid} is not divisible by patch_size {patch_size}: "
                f"axis {axis} of space has {voxels} voxels"
            )
    coarse = tuple(voxels // patch_size for voxels in grid)
    pairs = [size for voxels in coarse for size in (voxels, patch_size)]
    first = len(lead) + 1
    coarse_axes = range(first, first + 2 * num_axes, 2)
    patch_axes = range(first + 1, first + 2 * num_axes, 2)
    x = x.reshape(*lead, channels, *pairs)
    x = x.permute(*range(len(lead)), *patch_axes, len(lead), *coarse_axes)
    return x.reshape(*lead, patch_size**num_axes * channels, *coarse)


def depth_to_space(x: Tensor, patch_size: int, num_axes: int) -> Tensor:
    """Undo `space_to_depth`.

    Parameters
    ----------
    x
        `(..., p**d * C, *space)`.
    patch_size
        Voxels along every side of a patch, p.
    num_axes
        Axes of space, d.

    Returns
    -------
    torch.Tensor
        `(..., C, *(p * space))`.

    Raises
    ------
    UserError
        If the channels are not divisible by p**d.
    """
    if patch_size == 1:
        return x
    lead, channels, grid = _split_shape(x, num_axes)
    positions = patch_size**num_axes
    if channels % positions:
        raise UserError(f"{channels} channels are not divisible by patch_size**num_axes = {positions}")
    patch_axes = range(len(lead), len(lead) + num_axes)
    channel_axis = len(lead) + num_axes
    pairs = [axis for k in range(num_axes) for axis in (channel_axis + 1 + k, patch_axes[k])]
    x = x.reshape(*lead, *(patch_size,) * num_axes, channels // positions, *grid)
    x = x.permute(*range(len(lead)), channel_axis, *pairs)
    return x.reshape(*lead, channels // positions, *(patch_size * voxels for voxels in grid))


def _split_shape(x: Tensor, num_axes: int) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Shape of `(..., C, *space)` as its three parts."""
    if x.ndim <= num_axes:
        raise UserError(
            f"a tensor (..., C, *space) with {num_axes} axes of space, found shape {tuple(x.shape)}"
        )
    channel_axis = x.ndim - num_axes - 1
    return tuple(x.shape[:channel_axis]), x.shape[channel_axis], tuple(x.shape[channel_axis + 1 :])
