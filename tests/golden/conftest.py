"""The recorded vectors, unpacked."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mim3d.compat.tensorflow import load_variables, network_settings
from mim3d.nn import MIM, space_to_depth

FOLDER = Path(__file__).parent
SAMPLE_SIZE = 256


@dataclass
class Case:
    """One recorded network."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]
    variables: dict[str, np.ndarray]

    @property
    def input_length(self) -> int:
        return self.meta["input_length"]

    @property
    def frames(self) -> Tensor:
        """`(B, T, C, *grid)`, or with batches of several steps in front."""
        num_axes = len(self.variables["predrnn/back_to_pixel/kernel"].shape) - 2
        return torch.from_numpy(np.moveaxis(self.arrays["frames"], -1, -1 - num_axes).copy())

    @property
    def token(self) -> Tensor:
        return torch.from_numpy(self.arrays["token"])

    def network(self) -> MIM:
        network = MIM(**network_settings(self.variables, patch_size=self.meta["patch_size"]))
        load_variables(network, self.variables)
        return network

    def by_name(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Cut a row of numbers into arrays with the names and shapes of the variables."""
        return cut(flat, self.meta["shapes"])


def cut(flat: np.ndarray, shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def read_case(name: str) -> Case:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    if "start" in arrays:
        flat = arrays.pop("start")
    else:
        high, low = arrays.pop("variables_high"), arrays.pop("variables_low")
        flat = ((high.astype(np.int16) << 8) + low).astype(np.float32) / 2**10
    return Case(meta, arrays, cut(flat, meta["shapes"]))


def to_patches(network: MIM, frames: Tensor) -> np.ndarray:
    """Lay frames out as the original's outputs: in patches, channels last."""
    patches = space_to_depth(frames, network.patch_size, network.num_axes)
    return np.moveaxis(patches.detach().numpy(), 2, -1)


def sample(size: int) -> np.ndarray:
    """Indices of the elements that were kept of a gradient."""
    return np.sort(np.random.RandomState(0).permutation(size)[:SAMPLE_SIZE])


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Case]:
    return read_case


@pytest.fixture(scope="session")
def patches() -> Callable[[MIM, Tensor], np.ndarray]:
    return to_patches


@pytest.fixture(scope="session")
def kept() -> Callable[[int], np.ndarray]:
    return sample
