"""What part of a radar image is taken, and on what pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mim3d.data.datasets.radar.frames import Quantity
from mim3d.errors import UserError


@dataclass(frozen=True)
class Region:
    """A rectangle of the image, on pixels that are `coarsen` times larger.

    Parameters
    ----------
    top, left, height, width
        The rectangle [pixels of the file].
    coarsen
        Pixels of the file along the side of a new one.
    """

    top: int
    left: int
    height: int
    width: int
    coarsen: int = 1

    @classmethod
    def of(cls, grid: tuple[int, int], crop: Sequence[int] | None, coarsen: int) -> Region:
        """Return the region that a user asked for, less the pixels that fill no larger one.

        Raises
        ------
        UserError
            If it is not within the image, or holds no pixel.
        """
        top, left, height, width = crop if crop is not None and len(crop) == 4 else (0, 0, *grid)
        if (
            (crop is not None and len(crop) != 4)
            or min(top, left) < 0
            or min(height, width, coarsen) < 1
            or top + height > grid[0]
            or left + width > grid[1]
            or min(height, width) < coarsen
        ):
            raise UserError(
                f"crop (top, left, height, width) must be within {grid[0]} x {grid[1]} pixels and coarsen "
                f"from 1 to its sides, found {crop} and {coarsen}"
            )
        return cls(top, left, height - height % coarsen, width - width % coarsen, coarsen)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width in the larger pixels."""
        return self.height // self.coarsen, self.width // self.coarsen

    def take(self, frames: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Return the region of frames `(T, rows, columns)`.

        A larger pixel is the mean of what was measured in it (of the reflectivity factor, not of its
        logarithm), and was not measured where more than half of it was not.
        """
        taken = frames[:, self.top : self.top + self.height, self.left : self.left + self.width]
        if self.coarsen == 1:
            return np.ascontiguousarray(taken)
        (height, width), side = self.grid, self.coarsen
        blocks = taken.reshape(len(taken), height, side, width, side).astype(np.float64)
        if quantity == "reflectivity":
            blocks = 10 ** (blocks / 10)
        count = (~np.isnan(blocks)).sum(axis=(2, 4))
        mean = np.nansum(blocks, axis=(2, 4)) / np.maximum(count, 1)
        if quantity == "reflectivity":
            with np.errstate(divide="ignore"):
                mean = 10 * np.log10(mean)
        return np.where(2 * count >= side**2, mean, np.nan).astype(np.float32)
