"""Human3.6M: sequences cut from a flat folder of drawn JPEG files, and OpenSTL's lists."""

import numpy as np
import pytest
from PIL import Image

from mim3d.data.datasets import open_dataset
from mim3d.data.datasets.human36m import list_frames, resize
from mim3d.errors import UserError


def write_video(folder, name, count, size=(32, 32), first=1):
    """Draw `count` files, every fifth frame; the frame's number sets the brightness."""
    folder.mkdir(exist_ok=True)
    for k in range(count):
        height, width = size
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 0] = 5 * k
        image[height // 4 : -(height // 4), width // 4 : -(width // 4), 2] = 200
        Image.fromarray(image).save(folder / f"{name}_{first + 5 * k:06d}.jpg", quality=95, subsampling=0)


@pytest.fixture
def folder(tmp_path):
    """Videos of two test subjects, one for training, one for validation, and what is to be left out."""
    write_video(tmp_path / "images", "S11_Walking.54138969", 20)
    write_video(tmp_path / "images", "S11_Walking_1.60457274", 15)
    write_video(tmp_path / "images", "S9_Walking.54138969", 14)
    write_video(tmp_path / "images", "S9_WalkDog.54138969", 15)
    write_video(tmp_path / "images", "S1_Walking.54138969", 26)
    write_video(tmp_path / "images", "S8_Walking.54138969", 15)
    (tmp_path / "images" / "readme.txt").write_text("not a frame")
    return tmp_path / "images"


def test_names_are_taken_apart(folder):
    file = next(file for file in list_frames(folder) if file.scenario == "Walking_1")
    assert (file.subject, file.video, file.frame) == ("S11", "S11_Walking_1.60457274", 1)


def test_protocol_of_mim(folder):
    test = open_dataset("human36m", folder)
    assert test.shape == (8, 3, 128, 128)
    assert (test.input_length, test.time_step, test.time_unit) == (4, 0.2, "s")
    # 15 files make one sequence; the next start is 5 files on, so 20 make two; 14 are one too few.
    assert [test.label(i) for i in range(len(test))] == [
        "S11_Walking.54138969_000001",
        "S11_Walking.54138969_000026",
        "S11_Walking_1.60457274_000001",
    ]
    # In training the next start is 10 files on: 26 files make two.
    train = open_dataset("human36m", folder, "train")
    assert [train.label(i) for i in range(len(train))] == [
        "S1_Walking.54138969_000001",
        "S1_Walking.54138969_000051",
    ]
    assert len(open_dataset("human36m", folder, "validation")) == 1
    paper = open_dataset("human36m", folder, "train", subjects=("S1", "S5", "S6", "S7", "S8"))
    assert len(paper) == 3
    # Who is trained on is in no other split.
    with pytest.raises(UserError, match=r"S8 in training, who cannot be in validation as well; train with"):
        open_dataset("human36m", folder, "validation", subjects=("S1", "S8"))
    with pytest.raises(UserError, match="S9 in training, who cannot be in test as well"):
        open_dataset("human36m", folder, subjects=("S9",))
    others = open_dataset("human36m", folder, subjects=("S1", "S8"))
    assert [others.label(i) for i in range(len(others))] == [test.label(i) for i in range(len(test))]


def test_every_second_file_is_a_frame_in_rgb_cropped_to_the_middle(folder):
    test = open_dataset("human36m", folder, size=6)
    item = test[2]
    assert tuple(item.shape) == (8, 3, 6, 6)
    # Red is 10 more (of 255) from frame to frame; the crop leaves the blue middle alone.
    red = item[:, 0].mean(dim=(1, 2)) * 255
    np.testing.assert_allclose(red, 10 * np.arange(8), atol=6)
    assert float(item[:, 2].min()) * 255 > 150
    assert float(item[:, 1].max()) * 255 < 25


def test_frames_that_are_missing_end_a_sequence(folder):
    (folder / "S11_Walking_1.60457274_000036.jpg").unlink()
    write_video(folder, "S11_Walking_1.60457274", 20, first=101)
    labels = [item.label(i) for item in [open_dataset("human36m", folder)] for i in range(len(item))]
    assert [label for label in labels if "_1." in label] == [
        "S11_Walking_1.60457274_000101",
        "S11_Walking_1.60457274_000126",
    ]


def test_resizing_samples_without_smoothing():
    """Halving takes the mean of the two nearest pixels along each axis, by either way of counting."""
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    expected = image.reshape(1, 4, 2, 4, 2).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(resize(image, (4, 4), "bilinear"), expected, atol=1e-6)
    # Quartering takes the middle two pixels of every four, not the mean of all.
    row = np.array([[[100, 0, 0, 100, 100, 0, 0, 100]]], np.uint8).repeat(8, axis=1)
    np.testing.assert_allclose(resize(row, (2, 2), "bilinear"), 0)
    np.testing.assert_array_equal(resize(image, (8, 8), "bicubic"), image.astype(np.float32) / 255)


def test_lists_of_openstl(folder):
    root = folder.parent
    videos = ["S11_Walking.54138969_", "S9_WalkDog.54138969_", "S1_Walking.54138969_"]
    (root / "test.txt").write_text(f"images/{videos[0]},1,71\nimages/{videos[1]},6,76\n\n")
    (root / "train.txt").write_text(
        "".join(f"images/{video},{b},{b + 70}\n" for video in videos for b in (1, 6))
    )
    test = open_dataset("human36m", root, protocol="openstl")
    assert len(test) == 2
    assert test.shape == (8, 3, 256, 256)
    assert test.files[1][0].name == "S9_WalkDog.54138969_000006.jpg"
    assert test.files[1][7].name == "S9_WalkDog.54138969_000041.jpg"
    small = open_dataset("human36m", root, protocol="openstl", size=12)
    np.testing.assert_allclose(small[0][:, 0].mean(dim=(1, 2)) * 255, 5 * np.arange(8), atol=6)
    parts = [open_dataset("human36m", root, split, protocol="openstl") for split in ("train", "validation")]
    assert [len(part) for part in parts] == [4, 2]
    assert not {part.name for part in parts[0].files[0]} & {part.name for part in parts[1].files[0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images/S1_,1\n", "line 1: 'images/S1_,1' is not a prefix"),
        ("images/S1_,1,71\nimages/S1_,x,y\n", "line 2"),
        ("/etc/S1_,1,71\n", "leads out of the folder"),
        ("../S1_,1,71\n", "leads out of the folder"),
        ("\n", "lists no sequence"),
    ],
)
def test_lists_that_do_not_do(tmp_path, text, message):
    (tmp_path / "test.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        open_dataset("human36m", tmp_path, protocol="openstl")


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="no folder"):
        open_dataset("human36m", folder / "none")
    with pytest.raises(UserError, match="holds no files named like"):
        open_dataset("human36m", tmp_path)
    with pytest.raises(UserError, match="no sequence of 15 files 5 frames apart of Walking by S5"):
        open_dataset("human36m", folder, "train", subjects=["S5"])
    with pytest.raises(UserError, match=r"option protocol is to be .*'openstl'.*, found 'predrnn'"):
        open_dataset("human36m", folder, protocol="predrnn")
    with pytest.raises(UserError, match="size must be at least 1"):
        open_dataset("human36m", folder, size=0)
    with pytest.raises(UserError, match=r"no file .*test\.txt"):
        open_dataset("human36m", folder, protocol="openstl")
    path = folder / "S11_Walking.54138969_000011.jpg"
    whole = path.read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"000011\.jpg is not an image, or is cut short"):
            open_dataset("human36m", folder)[0]
