"""What `mim3d data` will print and write."""

import numpy as np
import pytest

from mim3d.cli import main
from mim3d.data.datasets import DATASETS, commands, idx, open_dataset
from mim3d.errors import UserError


def test_every_data_set_has_a_line_a_card_and_a_page(pytestconfig):
    text = commands.list_text()
    assert len(text.splitlines()) == len(DATASETS)
    for name, card in DATASETS.items():
        assert f"{name} " in text
        described = commands.describe_text(name)
        for part in (card.summary, "protocol", "terms", "citation", "files"):
            assert part in described
        assert max(map(len, described.splitlines())) <= 110
        page = (pytestconfig.rootpath / "docs" / "data" / f"{name}.md").read_text()
        for heading in ("## Contents", "## Format", "## Protocol", "## Licence", "## Citation"):
            assert heading in page, f"{name}: {heading}"
    with pytest.raises(UserError, match="no data set 'kth'; there are: moving-mnist"):
        commands.describe_text("kth")
    assert "num_digits=2" in commands.describe_text("moving-mnist")


def test_what_is_made_opens_again(tmp_path, digit_folder):
    options = {"count": 3, "num_frames": 4, "input_length": 2, "size": 32}
    paths = commands.make("moving-mnist", tmp_path / "out", source=digit_folder, **options)
    assert [path.name for path in paths] == [
        "moving-mnist-train.npz",
        "moving-mnist-valid.npz",
        "moving-mnist-test.npz",
    ]
    for split in ("train", "validation", "test"):
        generated = open_dataset("moving-mnist", digit_folder, split, **options)
        read = open_dataset("moving-mnist", tmp_path / "out", split)
        assert (len(read), read.input_length) == (3, 2)
        np.testing.assert_array_equal(read[2], generated[2])
    report = commands.check(tmp_path / "out")
    assert report.ok
    assert "train: 3 sequences of 2 + 2 frames, 32 x 32, brightness" in report.text()
    for name in ("moving-fashion-mnist", "color-moving-mnist", "moving-mnist-3d"):
        folder, own = tmp_path / name, {**options, "size": 28}
        commands.make(name, folder, source=digit_folder, splits=["test"], **own)
        read = open_dataset(name, folder)
        assert (read.dataset, read.channels) == (name, open_dataset(name, digit_folder).channels)
        np.testing.assert_array_equal(read[1], open_dataset(name, digit_folder, **own)[1])
        assert commands.kind_of(folder) == name
    with pytest.raises(UserError, match=r"must hold one file \*-valid\.npz, found 0"):
        open_dataset(name, folder, "validation")


def test_a_mistake_writes_nothing(tmp_path, digit_folder):
    with pytest.raises(UserError, match="num_digits must be at least 1"):
        commands.make("moving-mnist", tmp_path / "out", source=digit_folder, num_digits=0)
    with pytest.raises(UserError, match="read from its files, not generated"):
        commands.make("taxibj", tmp_path / "out", source=digit_folder)
    assert not (tmp_path / "out").exists()


def test_check_reports_what_is_wrong(tmp_path, digit_folder):
    assert commands.check(digit_folder).ok
    path = digit_folder / "t10k-images-idx3-ubyte"
    assert "uint8 (7, 28, 28)" in commands.check(path).text()
    path.write_bytes(path.read_bytes()[:-5])
    report = commands.check(digit_folder)
    assert not report.ok
    assert len(report.problems) == 1
    assert "NOT usable" in report.text()
    assert "problem: test: " in report.text()
    assert "but has" in report.text()
    assert not commands.check(path).ok


def test_files_are_told_apart(tmp_path):
    for name, kind in (
        ("taxi/BJ13_M32x32_T30_InOut.h5", "taxibj"),
        ("human/S1_Walking.54138969_000001.jpg", "human36m"),
        ("lists/test.txt", "human36m"),
        ("own/dataset.yaml", "folder"),
        ("openstl/dataset.npz", "taxibj"),
    ):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(b"")
        assert commands.kind_of(path.parent) == kind
    np.savez(tmp_path / "any.npz", X_train=np.zeros(1))
    assert commands.kind_of(tmp_path / "any.npz") == "taxibj"
    assert commands.kind_of(tmp_path / "taxi/BJ13_M32x32_T30_InOut.h5") == "taxibj"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"of no known data set; .*dataset\.yaml"):
        commands.kind_of(tmp_path / "empty")
    with pytest.raises(UserError, match="no file or folder"):
        commands.kind_of(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="of no known data set"):
        commands.check(tmp_path / "notes.txt")


def test_check_of_torontos_file_and_of_ones_own(tmp_path):
    np.save(tmp_path / "mnist_test_seq.npy", np.zeros((20, 2, 8, 8), np.uint8))
    report = commands.check(tmp_path / "mnist_test_seq.npy")
    assert report.ok
    assert report.lines[0].startswith("test: 2 sequences of 10 + 10 frames")
    own = tmp_path / "own"
    for split in ("train", "validation", "test"):
        (own / split).mkdir(parents=True)
        np.save(own / split / "a.npy", np.full((4, 1, 2, 2), [[[np.nan, 1.0], [2.0, 3.0]]]))
    (own / "dataset.yaml").write_text("input_length: 2\nnum_frames: 4\nunit: K\n")
    text = commands.check(own).text()
    assert "channel_0 [K]" in text
    assert "values 1 to 3" in text
    assert "25 % missing" in text
    idx.write(tmp_path / "train-labels-idx1-ubyte", np.arange(3, dtype=np.uint8))
    assert commands.check(tmp_path / "train-labels-idx1-ubyte").ok


# --- as a user types it


def test_data_commands(tmp_path, digit_folder, capsys):
    assert main(["data"]) == 0
    assert "Available subcommands" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(DATASETS)
    assert main(["data", "describe", "taxibj"]) == 0
    assert "1344 windows" in capsys.readouterr().out
    output = tmp_path / "made"
    made = ["data", "make", "moving-mnist", f"--output={output}", f"--data={digit_folder}"]
    options = ["--options", "count=2", "speed=toronto", "num_frames=6", "input_length=3"]
    assert main([*made, "--splits", "train", "test", *options]) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "moving-mnist-test.npz",
        "moving-mnist-train.npz",
    ]
    generated = open_dataset(
        "moving-mnist", digit_folder, "test", count=2, speed="toronto", num_frames=6, input_length=3
    )
    np.testing.assert_array_equal(open_dataset("moving-mnist", output, "test")[1], generated[1])
    capsys.readouterr()
    assert main(["data", "check", str(digit_folder), "--options", "count=3"]) == 0
    assert "train: 3 sequences of 10 + 10 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "kth"], "no data set 'kth'"),
        (["make", "moving-mnist", "--output=out", "--options", "count=many"], "count is to be int | None"),
        (["make", "moving-mnist", "--output=out", "--options", "count"], "--options takes NAME=VALUE"),
        (["make", "moving-mnist", "--output=out", "--options", "colour=red"], "no option 'colour'"),
        (["make", "moving-mnist", "--output=out", "--splits", "tset"], "split is 'tset'"),
        (["check", "nowhere"], "no file or folder nowhere"),
    ],
)
def test_data_commands_refuse(arguments, words, digit_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    where = [f"--data={digit_folder}"] if arguments[0] == "make" else []
    assert main(["data", *arguments[:2], *where, *arguments[2:]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mim3d: error: ")
    assert len(error.splitlines()) == 1
    assert words in error
    assert not (tmp_path / "out").exists()


def test_data_check_fails_where_files_are_damaged(digit_folder, capsys):
    path = digit_folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["data", "check", str(digit_folder)]) == 2
    captured = capsys.readouterr()
    assert "NOT usable" in captured.out
    assert "copy it again" in captured.err
