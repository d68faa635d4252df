"""What all image data sets share, and that they feed a network."""

import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mim3d.data import ClipSampler, Scaling
from mim3d.data.datasets.color_moving_mnist import ColorMovingMNIST
from mim3d.data.sequences import Sequences
from mim3d.errors import UserError
from mim3d.nn import build


class Ramp(Sequences):
    """Frame t of sequence n is n + t kelvin above 300, one pixel unknown."""

    def __init__(self, **changes):
        settings = {
            "name": "ramp",
            "channels": ("temperature",),
            "grid": (2, 3),
            "num_frames": 4,
            "input_length": 2,
            "split": "test",
            "unit": "K",
            "scaling": Scaling(("temperature",), ("linear",), (300.0,), (10.0,)),
        }
        super().__init__(**{**settings, **changes})

    def __len__(self):
        return 3

    def sequence(self, number):
        frames = np.full(self.shape, (number + np.arange(4)[:, None, None, None]) / 10, np.float32)
        frames[1, 0, 0, 2] = np.nan
        return frames


def test_items_masks_units_and_labels():
    dataset = Ramp()
    item = dataset[2]
    assert item.dtype == torch.float32
    assert dataset.mask(2).nonzero().tolist() == [[1, 0, 0, 2]]
    assert item[1, 0, 0, 2] == 0
    torch.testing.assert_close(dataset.physical(item)[:, 0, 0, 0], torch.arange(302.0, 306.0))
    assert torch.equal(dataset[-1], item)
    assert torch.equal(dataset[5, 2], item)
    assert dataset.label(2) == "test 2"
    assert len(list(dataset)) == 3
    with pytest.raises(IndexError):
        dataset[3]


def test_mistakes_are_named():
    with pytest.raises(UserError, match="split is 'valid'"):
        Ramp(split="valid")
    with pytest.raises(UserError, match=r"from 1 to 3 .* found 4"):
        Ramp(input_length=4)
    dataset = Ramp()
    frames = dataset.sequence(0)
    dataset.grid = (2, 4)
    dataset.sequence = lambda number: frames
    with pytest.raises(UserError, match=r"is float32 \(4, 1, 2, 3\), it should be .* \(4, 1, 2, 4\)"):
        dataset[0]


def test_a_network_learns_from_them_in_the_samplers_order():
    digits = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    options = {"size": 16, "num_frames": 4, "input_length": 2, "count": 4, "speed": 1}
    dataset = ColorMovingMNIST(digits, "train", **options)
    sampler = ClipSampler(len(dataset), seed=1)
    torch.manual_seed(0)
    network = build(
        "mim",
        {
            "in_channels": 3,
            "hidden_channels": [4, 4],
            "kernel_size": 3,
            "num_axes": 2,
            "grid": [16, 16],
            "patch_size": 4,
        },
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    loader = DataLoader(dataset, batch_size=4, sampler=sampler)
    for frames in (frames for _ in range(3) for frames in loader):
        loss = (network.unroll(frames, 2) - frames[:, 1:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert len(losses) == 3
    assert losses[2] < losses[0]


@pytest.mark.parametrize("page", ["folder"])
def test_the_example_in_the_documentation_runs(page, pytestconfig, tmp_path, monkeypatch, capsys):
    path = pytestconfig.rootpath / "docs" / "data" / f"{page}.md"
    if not path.is_file():
        pytest.skip("the documentation is not here")
    (code,) = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(path), "exec"), {})
    assert "torch.Size([10, 1, 32, 32])" in capsys.readouterr().out
