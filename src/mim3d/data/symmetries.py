"""The symmetries of the square and the cube, acting on fields and on the components of vectors.

Gas does not know which way a box is turned, so every simulated run is as good as 48 (8 in two dimensions).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from mim3d.errors import UserError

Array = TypeVar("Array", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Symmetry:
    """A rotation or reflection that maps the axes of a grid onto each other.

    With coordinates measured from the centre of the box, a point at `r` goes to `r'`, where
    `r'[a] = sign[a] * r[permutation[a]]` and `sign[a]` is -1 where `flips[a]`.

    Parameters
    ----------
    permutation
        For every new axis, the old axis that it comes from.
    flips
        For every new axis, whether its direction is reversed.
    """

    permutation: tuple[int, ...]
    flips: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Check that this is a permutation with one flip an axis."""
        if sorted(self.permutation) != list(range(len(self.flips))):
            raise UserError(f"not a symmetry of a grid: permutation {self.permutation}, flips {self.flips}")

    @property
    def num_axes(self) -> int:
        """Number of axes of space."""
        return len(self.flips)

    @property
    def matrix(self) -> np.ndarray:
        """The orthogonal matrix `(axes, axes)` that takes `r` to `r'`."""
        matrix = np.zeros((self.num_axes, self.num_axes))
        for new, (old, flip) in enumerate(zip(self.permutation, self.flips, strict=True)):
            matrix[new, old] = -1.0 if flip else 1.0
        return matrix

    @property
    def inverse(self) -> Symmetry:
        """The symmetry that undoes this one."""
        new_of_old = tuple(self.permutation.index(axis) for axis in range(self.num_axes))
        return Symmetry(new_of_old, tuple(self.flips[new] for new in new_of_old))

    def __matmul__(self, first: Symmetry) -> Symmetry:
        """Return the symmetry that does `first`, then this one (as their matrices multiply)."""
        return Symmetry(
            tuple(first.permutation[axis] for axis in self.permutation),
            tuple(flip != first.flips[axis] for flip, axis in zip(self.flips, self.permutation, strict=True)),
        )

    def keeps(self, sizes: Sequence[float]) -> bool:
        """Tell whether a grid or box with these sizes along its axes keeps its shape."""
        return all(sizes[old] == sizes[new] for new, old in enumerate(self.permutation))


def group(num_axes: int) -> tuple[Symmetry, ...]:
    """All symmetries of a cube of `num_axes` axes (2, 8 or 48), the identity first."""
    return tuple(
        Symmetry(permutation, flips)
        for permutation in itertools.permutations(range(num_axes))
        for flips in itertools.product((False, True), repeat=num_axes)
    )


LINE, SQUARE, CUBE = group(1), group(2), group(3)


def apply(array: Array, symmetry: Symmetry, vectors: Sequence[Sequence[int]] = ()) -> Array:
    """Turn fields, grid and vector components together.

    Parameters
    ----------
    array
        `(..., C, *space)`, numpy or torch.
    symmetry
        What to do.
    vectors
        For every vector field, the channels of its components in the order of the axes, for instance
        `[(3, 4, 5)]`. All other channels are scalars. Vectors are polar (velocities, forces).

    Returns
    -------
    numpy.ndarray or torch.Tensor
        The turned fields, a copy. With unequal sides the sides change places.

    Raises
    ------
    UserError
        If a vector has not one channel per axis.
    """
    num_axes = symmetry.num_axes
    if array.ndim <= num_axes:
        raise UserError(
            f"an array (..., C, *space) of {num_axes} axes is needed, this one has shape {tuple(array.shape)}"
        )
    lead = array.ndim - num_axes
    order = (*range(lead), *(lead + axis for axis in symmetry.permutation))
    flipped = tuple(lead + axis for axis, flip in enumerate(symmetry.flips) if flip)
    if isinstance(array, torch.Tensor):
        turned = array.permute(order).flip(flipped)
        result = turned.clone(memory_format=torch.contiguous_format)
    else:
        turned = np.flip(np.transpose(array, order), flipped)
        result = np.array(turned, order="C")
    channel_axis = lead - 1
    prefix = (slice(None),) * channel_axis
    for components in vectors:
        if len(components) != num_axes:
            raise UserError(
                f"a vector has {num_axes} components here, channels {tuple(components)} were given"
            )
        for new, (old, flip) in enumerate(zip(symmetry.permutation, symmetry.flips, strict=True)):
            source: Any = turned[(*prefix, components[old])]
            result[(*prefix, components[new])] = -source if flip else source
    return result
