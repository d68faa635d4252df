"""LPIPS against its equation written out once more."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from mim3d.errors import UserError
from mim3d.metrics import LearnedPerceptualSimilarity, PerceptualDistance
from mim3d.metrics.perceptual import SMALLEST, _torchmetrics_heads

SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def alexnet(seed=0):
    """Random weights with torchvision's names, of a size at which all layers matter."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {"classifier.1.weight": torch.zeros(2, 2)}
    for number, (out, channels, side) in SHAPES.items():
        shape = (out, channels, side, side)
        bound = (2 / (channels * side**2)) ** 0.5
        tensors[f"features.{number}.weight"] = bound * torch.randn(shape, generator=generator)
        tensors[f"features.{number}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return tensors


def heads(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"lin{layer}.model.1.weight": torch.rand((1, shape[0], 1, 1), generator=generator)
        for layer, shape in enumerate(SHAPES.values())
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(alexnet(), folder / "alexnet.pth")
    torch.save(heads(), folder / "alex.pth")
    return folder / "alexnet.pth", folder / "alex.pth"


@pytest.fixture(scope="module")
def distance(files):
    return PerceptualDistance.read(files)


def by_hand(first, second):
    """Distance of two images (3, height, width) in [-1, 1], place by place."""
    weights, of_layers = alexnet(), heads()
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    x = torch.stack([(image - shift) / scale for image in (first, second)])
    total = 0.0
    strides, padding = {0: 4}, {0: 2, 3: 2, 6: 1, 8: 1, 10: 1}
    for layer, number in enumerate(SHAPES):
        weight, bias = weights[f"features.{number}.weight"], weights[f"features.{number}.bias"]
        x = functional.conv2d(x, weight, bias, strides.get(number, 1), padding[number]).clamp(min=0)
        u, v = (each / each.pow(2).sum(0).sqrt() for each in x)
        total += float((of_layers[f"lin{layer}.model.1.weight"][0] * (u - v) ** 2).sum(0).mean())
        if number in (0, 3):
            x = functional.max_pool2d(x, 3, 2)
    return total


def images(seed=0, size=40):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand((2, 3, size, size), generator=generator) - 1


def test_the_equation(distance):
    first, second = images()
    assert float(distance(first[None], second[None])[0]) == pytest.approx(by_hand(first, second), rel=1e-5)
    assert float(distance(first[None], first[None])[0]) == 0


def test_one_file_with_the_names_of_lpips_holds_all(files, distance):
    weights = {
        f"net.slice{layer + 1}.{number}.{name}": alexnet()[f"features.{number}.{name}"]
        for layer, number in enumerate(SHAPES)
        for name in ("weight", "bias")
    }
    save_file(weights | heads(), files[0].parent / "all.safetensors")
    own = PerceptualDistance.read([files[0].parent / "all.safetensors"])
    first, second = images()
    assert float(own(first[None], second[None])) == float(distance(first[None], second[None]))


def test_the_own_weights_of_lpips_are_found(files):
    own = PerceptualDistance.read(files[:1])
    found = _torchmetrics_heads()
    assert own.heads[4].shape == (256,)
    torch.testing.assert_close(own.heads[4].detach(), found["lin4.model.1.weight"].flatten())
    assert all((head >= 0).all() for head in own.heads)


def test_it_streams_and_merges(distance):
    random = np.random.default_rng(0)
    forecast, truth = random.uniform(0, 2, (2, 3, 2, 1, 32, 32))
    whole = LearnedPerceptualSimilarity.start(2, distance, (0, 2))
    parts = [LearnedPerceptualSimilarity.start(2, distance, (0, 2)) for _ in range(2)]
    for number, sample in enumerate(zip(forecast, truth, strict=True)):
        whole.accumulate(*sample)
        parts[number % 2].accumulate(*sample)
    np.testing.assert_allclose(parts[0].merge(parts[1]).compute(), whole.compute(), rtol=1e-6)
    gray = [torch.from_numpy(frames[0, 0] - 1).float().expand(1, 3, -1, -1) for frames in (forecast, truth)]
    one = LearnedPerceptualSimilarity.start(1, distance, (0, 2))
    one.accumulate(forecast[0, :1], truth[0, :1])
    assert one.compute()[0] == pytest.approx(float(distance(*gray)), rel=1e-5)


def test_pixels_that_are_not_known_do_not_count(distance):
    random = np.random.default_rng(0)
    truth = random.uniform(size=(1, 3, 36, 36))
    forecast = truth.copy()
    forecast[..., :9] = 0.5
    score = LearnedPerceptualSimilarity.start(1, distance)
    score.accumulate(forecast, truth)
    assert score.compute()[0] > 0.01
    truth[..., :9] = np.nan
    masked = LearnedPerceptualSimilarity.start(1, distance)
    masked.accumulate(forecast, truth)
    assert masked.compute()[0] == 0
    nothing = LearnedPerceptualSimilarity.start(1, distance)
    nothing.accumulate(forecast, np.full_like(truth, np.nan))
    assert np.isnan(nothing.compute()[0])


def test_what_cannot_be_scored_is_refused(distance, files, tmp_path):
    score = LearnedPerceptualSimilarity.start(1, distance)
    small = np.zeros((1, 1, SMALLEST - 1, 40))
    with pytest.raises(UserError, match="31 pixels a side"):
        score.accumulate(small, small)
    with pytest.raises(UserError, match="lowest < highest"):
        LearnedPerceptualSimilarity.start(1, distance, (1, 1))
    torch.save(alexnet(seed=5), tmp_path / "other.pth")
    other = PerceptualDistance.read([tmp_path / "other.pth", files[1]])
    with pytest.raises(UserError, match="different weights"):
        score.merge(LearnedPerceptualSimilarity.start(1, other))
    with pytest.raises(
        UserError, match=r"alexnet-owt-7be5be79.pth.*convolutions.0.weight.* there is nothing"
    ):
        PerceptualDistance.read(files[1:])
    with pytest.raises(UserError, match="no file"):
        PerceptualDistance.read([tmp_path / "nothing.pth"])
    torch.save({"f": print}, tmp_path / "program.pth")
    with pytest.raises(UserError, match="not opened"):
        PerceptualDistance.read([tmp_path / "program.pth"])
