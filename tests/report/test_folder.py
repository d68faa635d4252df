"""Folders of results appear whole or not at all, and nobody else's files are touched."""

import json
import os

import pytest

from mim3d.errors import UserError
from mim3d.report.folder import check_result_folder, result_folder


def write(target, *names):
    with result_folder(target, "record.json") as folder:
        for name in names:
            (folder / name).write_text(name)
        (folder / "record.json").write_text(json.dumps({"files": [*names, "record.json"]}))


def test_it_appears_at_the_end(tmp_path):
    target = tmp_path / "a/b"
    with result_folder(target, "record.json") as folder:
        (folder / "x").write_text("1")
        assert not target.exists()
    assert os.listdir(target) == ["x"]
    assert os.listdir(tmp_path / "a") == ["b"]
    assert target.stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_nothing_is_left_of_a_failure(tmp_path):
    write(tmp_path / "out", "x")

    def fail():
        with result_folder(tmp_path / "out", "record.json") as folder:
            (folder / "x").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "out/x").read_text() == "x"
    assert os.listdir(tmp_path) == ["out"]


def test_earlier_results_go_and_other_files_stay(tmp_path):
    target = tmp_path / "out"
    write(target, "x", "old")
    (target / "notes").write_text("mine")
    write(target, "x", "new")
    assert sorted(os.listdir(target)) == ["new", "notes", "record.json", "x"]


def test_a_record_cannot_reach_outside(tmp_path):
    (tmp_path / "precious").write_text("1")
    target = tmp_path / "out"
    write(target, "x")
    (target / "record.json").write_text(json.dumps({"files": ["../precious", "x", "record.json"]}))
    write(target, "y")
    assert (tmp_path / "precious").exists()
    assert sorted(os.listdir(target)) == ["record.json", "y"]


@pytest.mark.parametrize("record", ["{}", "[]", "not json", '{"files": 3}', None])
def test_folders_of_others_are_refused(tmp_path, record):
    (tmp_path / "data").write_text("1")
    if record is not None:
        (tmp_path / "record.json").write_text(record)
    with pytest.raises(UserError, match="other files"):
        check_result_folder(tmp_path, "record.json")
    with pytest.raises(UserError, match="other files"), result_folder(tmp_path, "record.json"):
        pass
    assert (tmp_path / "data").exists()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("1")
    for target in ("file", "file/below"):
        with pytest.raises(UserError):
            check_result_folder(tmp_path / target, "record.json")
