"""Work shared out over processes: all of it is done, also when one of them is killed."""

import json

import pytest

from mim3d.errors import UserError
from mim3d.jobs import claim_folder, run_jobs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    folder = str(tmp_path)

    def work(number):
        import os
        import pathlib
        import signal

        with (pathlib.Path(folder) / f"{number}.tries").open("a") as file:
            file.write("x")
        if number == 3 and (pathlib.Path(folder) / "3.tries").read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    assert sorted(run_jobs(work, range(8), workers=2)) == list(range(8))
    assert (tmp_path / "3.tries").read_text() == "xx"


def test_a_folder_belongs_to_its_settings(tmp_path):
    claim_folder(tmp_path / "new", "r.json", {"steps": 3, "sides": (1, 2)}, "other things")
    claim_folder(tmp_path / "new", "r.json", {"steps": 3, "sides": (1, 2)}, "other things")
    assert json.loads((tmp_path / "new/r.json").read_text()) == {"steps": 3, "sides": [1, 2]}
    with pytest.raises(UserError, match=r"holds other things .it differs in steps."):
        claim_folder(tmp_path / "new", "r.json", {"steps": 4, "sides": (1, 2)}, "other things")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        claim_folder(tmp_path / "file", "r.json", {}, "other things")


def test_a_scheduler_that_does_not_answer_is_one_clear_line(monkeypatch):
    monkeypatch.setattr("mim3d.jobs.SCHEDULER_TIMEOUT", "1s")
    with pytest.raises(UserError, match="no Dask scheduler answers"):
        list(run_jobs(str, [1], workers=1, scheduler="tcp://127.0.0.1:9"))
