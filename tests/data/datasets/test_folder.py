"""One's own data: every kind of recording, the settings file, and what can be wrong with them."""

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from mim3d.data.datasets import open_dataset
from mim3d.data.datasets.folder import read_settings
from mim3d.errors import UserError

FRAMES = np.random.default_rng(0).random((10, 2, 6, 5)).astype(np.float32)


def write_settings(folder, **settings):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"input_length": 2, "num_frames": 4, **settings}))
    return folder


def test_npy_npz_and_hdf5_give_the_same_windows(tmp_path):
    write_settings(tmp_path, channels=["height", "speed"], array="run/frames")
    (tmp_path / "test").mkdir()
    np.save(tmp_path / "test" / "a.npy", FRAMES)
    with h5py.File(tmp_path / "test" / "c.h5", "w") as file:
        file["run/frames"] = FRAMES
    dataset = open_dataset("folder", tmp_path)
    assert dataset.channels == ("height", "speed")
    assert dataset.shape == (4, 2, 6, 5)
    # Ten frames hold two windows of four.
    assert [dataset.label(i) for i in range(len(dataset))] == [
        "a.npy, frame 0",
        "a.npy, frame 4",
        "c.h5, frame 0",
        "c.h5, frame 4",
    ]
    for index in (1, 3):
        np.testing.assert_array_equal(dataset[index], FRAMES[4:8])
    write_settings(tmp_path, array="frames")
    (tmp_path / "test" / "c.h5").unlink()
    for number, save in enumerate((np.savez, np.savez_compressed)):
        save(tmp_path / "test" / f"z{number}.npz", frames=FRAMES)
    dataset = open_dataset("folder", tmp_path)
    assert len(dataset) == 6
    for index in (1, 3, 5):
        np.testing.assert_array_equal(dataset[index], FRAMES[4:8])


def test_images(tmp_path):
    write_settings(tmp_path, value_range=[0, 255])
    for name in ("one", "two"):
        (tmp_path / "test" / name).mkdir(parents=True)
        for k in range(5):
            pixels = np.full((6, 5), 10 * k, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "test" / name / f"{k:03d}.png")
    dataset = open_dataset("folder", tmp_path)
    assert dataset.shape == (4, 1, 6, 5)
    np.testing.assert_allclose(dataset[1][:, 0, 0, 0], np.arange(4) * 10 / 255)
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(tmp_path / "test" / "two" / "002.png")
    with pytest.raises(UserError, match=r"002.png is \(3, 6, 5\)"):
        dataset[1]


def test_colour_and_sixteen_bits(tmp_path):
    write_settings(tmp_path / "color")
    write_settings(tmp_path / "deep", value_range=[0, 1000])
    for k in range(4):
        for kind in ("color", "deep"):
            (tmp_path / kind / "test" / "run").mkdir(parents=True, exist_ok=True)
        color = np.zeros((4, 4, 3), np.uint8)
        color[..., 1] = 51 * k
        Image.fromarray(color).save(tmp_path / "color" / "test" / "run" / f"{k}.png")
        Image.fromarray(np.full((4, 4), 500 * k, np.uint16)).save(
            tmp_path / "deep" / "test" / "run" / f"{k}.png"
        )
    np.testing.assert_allclose(open_dataset("folder", tmp_path / "color")[0][:, 1, 0, 0], np.arange(4) / 5)
    np.testing.assert_allclose(open_dataset("folder", tmp_path / "deep")[0][:, 0, 0, 0], np.arange(4) / 2)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("TYX", (10, 6, 5)),
        ("NTYX", (3, 10, 6, 5)),
        ("TNYX", (10, 3, 6, 5)),
        ("YXTC", (6, 5, 10, 1)),
        ("TXYZ", (10, 6, 5, 4)),
        ("TX", (10, 6)),
    ],
)
def test_axes_in_any_order(tmp_path, axes, shape):
    values = np.random.default_rng(1).random(shape).astype(np.float32)
    write_settings(tmp_path, axes=axes, stride=3)
    (tmp_path / "test").mkdir()
    np.save(tmp_path / "test" / "a.npy", values)
    dataset = open_dataset("folder", tmp_path)
    # Windows at 0, 3 and 6, of every sequence.
    assert len(dataset) == 3 * dict(zip(axes, shape, strict=True)).get("N", 1)
    order = [axes.index(letter) for letter in sorted(axes, key="NTCXYZ".index)]
    if "YX" in axes:
        order = [axes.index(letter) for letter in sorted(axes, key="NTCYX".index)]
    straight = values.transpose(order)
    if "N" in axes:
        straight = straight[0]
    if "C" not in axes:
        straight = straight[:, None]
    np.testing.assert_array_equal(dataset[1], straight[3:7])


def test_intervals_scaling_units_and_missing_pixels(tmp_path):
    values = np.tile(np.arange(10, dtype=np.int16)[:, None, None, None] * 10, (1, 1, 3, 3))
    values[2, 0, 1, 1] = -999
    write_settings(
        tmp_path, interval=2, missing=-999, value_range=[0, 80], unit="mm", time_step=5, time_unit="min"
    )
    (tmp_path / "test").mkdir()
    np.save(tmp_path / "test" / "a.npy", values)
    dataset = open_dataset("folder", tmp_path)
    assert (len(dataset), dataset.unit, dataset.time_step, dataset.time_unit) == (1, "mm", 5, "min")
    item, mask = dataset[0], dataset.mask(0)
    np.testing.assert_allclose(item[:, 0, 0, 0], [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(dataset.physical(item)[:, 0, 0, 0], [0, 20, 40, 60])
    assert mask.nonzero().tolist() == [[1, 0, 1, 1]]
    assert item[1, 0, 1, 1] == 0


def test_whole_recordings_are_divided(tmp_path):
    write_settings(tmp_path, name="waves")
    for number in range(20):
        np.save(tmp_path / f"run{number}.npy", FRAMES + number)
    parts = {split: open_dataset("folder", tmp_path, split) for split in ("train", "validation", "test")}
    names = {split: {r.path.name for r in part.recordings} for split, part in parts.items()}
    assert sum(map(len, names.values())) == 20
    assert len(set.union(*names.values())) == 20
    assert len(parts["train"]) > len(parts["test"]) > 0
    assert parts["train"].name == "waves"
    assert len(parts["train"]) == 2 * len(names["train"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input_length: 2\nnum_frames: 4\nframes: 3\n", "no key 'frames'; there are: input_length"),
        ("num_frames: 4\n", "does not say input_length"),
        ("input_length: two\nnum_frames: 4\n", "input_length must be a whole number, found 'two'"),
        ("input_length: true\nnum_frames: 4\n", "a whole number, found True"),
        ("input_length: 2.5\nnum_frames: 4\n", "a whole number, found 2.5"),
        ("input_length: 4\nnum_frames: 4\n", "from 1 to num_frames - 1 = 3"),
        ("input_length: 2\nnum_frames: 4\nchannels: a\n", "a list of names, found 'a'"),
        ("input_length: 2\nnum_frames: 4\nchannels: [1]\n", "a channel must be a name"),
        ("input_length: 2\nnum_frames: 4\nvalue_range: [0]\n", "a list of 2 numbers, found 1"),
        ("input_length: 2\nnum_frames: 4\nvalue_range: [1, 0]\n", "lowest < highest"),
        ("input_length: 2\nnum_frames: 4\nvalue_range: [0, x]\n", "found 'x'"),
        ("input_length: 2\nnum_frames: 4\naxes: YX\n", "axes is 'YX'"),
        ("input_length: 2\nnum_frames: 4\naxes: TTX\n", "axes is 'TTX'"),
        ("input_length: 2\nnum_frames: 4\ninterval: 0\n", "interval >= 1"),
        ("input_length: 2\nnum_frames: 4\nunit: 3\n", "unit must be a text"),
        ("- 1\n", "lines of 'key: value'"),
        ("a: [\n", "is not YAML"),
        ("!!python/object/apply:os.system ['true']\n", "is not YAML"),
    ],
)
def test_settings_that_do_not_do(tmp_path, text, message):
    path = tmp_path / "dataset.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_settings(path)


def test_folders_that_do_not_do(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        open_dataset("folder", tmp_path / "none")
    with pytest.raises(UserError, match=r"no file .*dataset\.yaml"):
        open_dataset("folder", tmp_path)
    write_settings(tmp_path)
    with pytest.raises(UserError, match="holds no recordings"):
        open_dataset("folder", tmp_path)
    test = tmp_path / "test"
    test.mkdir()
    np.save(test / "a.npy", FRAMES)
    with pytest.raises(UserError, match="holds no folder 'train'"):
        open_dataset("folder", tmp_path, "train")
    np.save(test / "b.npy", FRAMES[:, :1])
    with pytest.raises(UserError, match="differ in their frames"):
        open_dataset("folder", tmp_path)
    (test / "b.npy").unlink()
    for settings, message in (
        ({"axes": "TYX"}, "dataset.yaml says its axes are TYX"),
        ({"channels": ["one"]}, "names 1 channels, the recordings have 2"),
        ({"num_frames": 11}, "has the 11 frames of a window"),
    ):
        write_settings(tmp_path, **settings)
        with pytest.raises(UserError, match=message):
            open_dataset("folder", tmp_path)
    write_settings(tmp_path)
    with pytest.raises(UserError, match="no option 'speed'"):
        open_dataset("folder", tmp_path, speed=1)
    infinite = FRAMES.copy()
    infinite[0, 0, 0, 0] = np.inf
    np.save(test / "a.npy", infinite)
    with pytest.raises(UserError, match=r"a.npy, frame 0: .* infinity"):
        open_dataset("folder", tmp_path)[0]


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "images/1.png"])
@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04\x95 pickle", b"\x93NUMPY", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n"]
)
def test_damaged_recordings(tmp_path, name, content):
    write_settings(tmp_path)
    path = tmp_path / "test" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path.name)):
        open_dataset("folder", tmp_path)


def test_objects_are_not_unpickled(tmp_path):
    write_settings(tmp_path)
    (tmp_path / "test").mkdir()
    np.save(tmp_path / "test" / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match="pickled"):
        open_dataset("folder", tmp_path)
    (tmp_path / "test" / "a.npy").unlink()
    np.savez(tmp_path / "test" / "a.npz", frames=np.array([{}]))
    with pytest.raises(UserError, match="Python objects"):
        open_dataset("folder", tmp_path)
    np.savez(tmp_path / "test" / "a.npz", frames=np.full((4, 1, 2, 2), "x"))
    with pytest.raises(UserError, match="must hold numbers"):
        open_dataset("folder", tmp_path)
    np.savez(tmp_path / "test" / "a.npz", other=FRAMES)
    with pytest.raises(UserError, match="no array 'frames'; there are: other"):
        open_dataset("folder", tmp_path)
