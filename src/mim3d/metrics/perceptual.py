"""Learned perceptual similarity (LPIPS): how different frames look to a network that tells objects apart.

The weights are the user's: they come neither with mim3d nor over the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mim3d.compat import read_tensors
from mim3d.errors import UserError
from mim3d.metrics.streaming import MeanScore

SMALLEST = 31
"""Side of the smallest frames of which AlexNet's last layers see anything [pixels]."""

# Number in torchvision, input and output channels, kernel, stride and padding of AlexNet's convolutions.
_LAYERS = {
    0: (3, 64, 11, 4, 2),
    3: (64, 192, 5, 1, 2),
    6: (192, 384, 3, 1, 1),
    8: (384, 256, 3, 1, 1),
    10: (256, 256, 3, 1, 1),
}
_POOLED_BEFORE = (3, 6)
# What images in [-1, 1] are shifted and divided by, red, green and blue: ImageNet's mean and deviation.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_TINY = 1e-10

_NAMES = re.compile(r"(?:features|net\.slice\d)\.(\d+)\.(weight|bias)")
_HEADS = re.compile(r"lin(\d)\.model\.1\.weight")


class PerceptualDistance(nn.Module):
    r"""Distance of images in the features of AlexNet.

    .. math:: d(u, v) = \sum_l \frac{1}{H_l W_l} \sum_{h,w} \sum_c w_{lc} (\hat u_{lchw} - \hat v_{lchw})^2

    where hats are the features of layer l, divided at every place by their length, and w are learned.

    References
    ----------
    Zhang, Isola, Efros, Shechtman & Wang 2018, arXiv 1801.03924, eq. 1 (LPIPS, version 0.1). Krizhevsky 2014,
    arXiv 1404.5997 (this AlexNet).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict(
            {
                str(number): nn.Conv2d(channels, out, kernel, stride, padding)
                for number, (channels, out, kernel, stride, padding) in _LAYERS.items()
            }
        )
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(out)) for _, out, *_ in _LAYERS.values()])
        self.register_buffer("shift", torch.tensor(_SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(3, 1, 1), persistent=False)

    @classmethod
    def read(cls, paths: Sequence[str | Path]) -> Self:
        """Read the weights.

        Parameters
        ----------
        paths
            AlexNet's file of torchvision (`alexnet-owt-7be5be79.pth`), and LPIPS's own `alex.pth`, which is
            looked for in the package torchmetrics where it is not given; or one file of both. Tensors alone
            are read.

        Raises
        ------
        UserError
            If a file cannot be read, or weights are missing or of another shape.
        """
        tensors: dict[str, Tensor] = {}
        for path in paths:
            tensors |= read_tensors(path)
        if not any(_HEADS.fullmatch(name) for name in tensors):
            tensors |= _torchmetrics_heads()
        weights: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if found := _NAMES.fullmatch(name):
                weights[f"convolutions.{found[1]}.{found[2]}"] = tensor
            elif found := _HEADS.fullmatch(name):
                weights[f"heads.{found[1]}"] = tensor.flatten()
        distance = cls()
        wanted = distance.state_dict()
        for name, tensor in wanted.items():
            if name not in weights or weights[name].shape != tensor.shape:
                found_shape = tuple(weights[name].shape) if name in weights else "nothing"
                raise UserError(
                    f"{', '.join(map(str, paths))}: LPIPS needs AlexNet's weights as torchvision stores them "
                    "(alexnet-owt-7be5be79.pth) and its own (alex.pth of the package torchmetrics); "
                    f"of {name} {tuple(tensor.shape)} there is {found_shape}"
                )
        distance.load_state_dict({name: weights[name] for name in wanted})
        return distance.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances `(N,)` of images `(N, 3, height, width)` in [-1, 1]."""
        x = (torch.cat([first, second]) - self.shift) / self.scale
        distance = x.new_zeros(len(first))
        for head, (number, convolution) in zip(self.heads, self.convolutions.items(), strict=True):
            if int(number) in _POOLED_BEFORE:
                x = functional.max_pool2d(x, 3, 2)
            x = functional.relu(convolution(x))
            u, v = (x / (x.norm(dim=1, keepdim=True) + _TINY)).chunk(2)
            distance = distance + torch.einsum("nchw,c->nhw", (u - v) ** 2, head).mean((1, 2))
        return distance


class LearnedPerceptualSimilarity(MeanScore):
    """Learned perceptual similarity (LPIPS) of every frame, averaged over samples; 0 for equal frames.

    Frames are `(C, height, width)`: red, green and blue where C is 3, else every channel is scored as a gray
    image and the mean taken. Nothing is clipped. Pixels that are not known are black in both.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    distance
        The network.
    value_range
        Black and white.
    """

    def __init__(
        self, num_frames: int, distance: PerceptualDistance, value_range: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        super().__init__(num_frames)
        if not value_range[0] < value_range[1]:
            raise UserError(f"value_range must be lowest < highest, found {value_range}")
        self.distance = distance
        self.value_range = value_range

    @classmethod
    def start(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, num_frames: int, distance: PerceptualDistance, value_range: tuple[float, float] = (0.0, 1.0)
    ) -> Self:
        """Return a score that has seen no sample."""
        return cls(num_frames, distance, value_range)

    def frame_value(self, forecast: np.ndarray, truth: np.ndarray) -> float:
        """Return the distance of one frame `(C, height, width)`."""
        if forecast.ndim != 3 or min(forecast.shape[1:]) < SMALLEST:
            raise UserError(
                f"LPIPS needs frames (C, height, width) of {SMALLEST} pixels a side or more, "
                f"found {forecast.shape}"
            )
        known = ~(np.isnan(forecast) | np.isnan(truth))
        if not known.any():
            return float("nan")
        with torch.inference_mode():
            distances = self.distance(*(self._images(frame, known) for frame in (forecast, truth)))
        return float(distances.mean())

    def _images(self, frame: np.ndarray, known: np.ndarray) -> Tensor:
        """Return the images `(N, 3, height, width)` of a frame, in [-1, 1]."""
        low, high = self.value_range
        scaled = 2 * (np.where(known, frame, low) - low) / (high - low) - 1
        images = torch.from_numpy(scaled.astype(np.float32))
        return images[None] if len(images) == 3 else images[:, None].expand(-1, 3, -1, -1)

    def merge(self, other: Self) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the score of the samples of both."""
        if self.value_range != other.value_range or not _same(
            self.distance.state_dict(), other.distance.state_dict()
        ):
            raise UserError("cannot merge scores of different weights or value ranges")
        return super().merge(other)


def _same(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, others[name]) for name, tensor in weights.items())


def _torchmetrics_heads() -> dict[str, Tensor]:
    """Return LPIPS's own weights from the package torchmetrics, if it has them."""
    spec = find_spec("torchmetrics")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "functional" / "image" / "lpips_models" / "alex.pth"
        if path.is_file():
            return read_tensors(path)
    return {}
