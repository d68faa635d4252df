import dataclasses
import json

import numpy as np
import pytest

from mim3d.campaign import CampaignSettings, run_campaign, run_path
from mim3d.data import well
from mim3d.errors import UserError

TINY = CampaignSettings(
    runs=3, grid=8, voxels=4, frames=2, time_step=0.002, fields=("density",), mach=(2.0, 6.0)
)


def densities(paths):
    return [well.read(path).fields["density"] for path in paths]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    output = tmp_path_factory.mktemp("campaign")
    return output, run_campaign(TINY, output, workers=1)


def test_every_run_has_a_file_of_its_own_with_its_twin(done):
    output, paths = done
    assert paths == [run_path(output, index) for index in range(3)]
    first, second, _ = (well.read(path) for path in paths)
    assert first.twin is not None
    assert first.grid == (4, 4, 4)
    np.testing.assert_allclose(first.times, [0, 0.002, 0.004])
    assert first.parameters["mach_number"] != second.parameters["mach_number"]
    assert not list(output.glob("*.tmp"))


def test_what_is_there_is_kept_and_what_is_missing_done_again(done, tmp_path):
    _, paths = done
    reference = densities(paths)
    again = run_campaign(TINY, tmp_path, workers=1)
    again[1].unlink()
    kept = again[0].stat().st_mtime_ns
    run_campaign(TINY, tmp_path, workers=1)
    assert again[0].stat().st_mtime_ns == kept
    for ours, theirs in zip(densities(again), reference, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_more_runs_may_be_added_but_another_campaign_not(done):
    output, _ = done
    with pytest.raises(UserError, match="it differs in seed"):
        run_campaign(dataclasses.replace(TINY, seed=1), output, workers=1)
    fewer = run_campaign(dataclasses.replace(TINY, runs=2), output, workers=1)
    assert len(fewer) == 2
    assert json.loads((output / "campaign.json").read_text())["grid"] == 8


@pytest.mark.slow
def test_dask_workers_give_the_same_runs_as_one_process(done, tmp_path):
    _, paths = done
    parallel = run_campaign(TINY, tmp_path, workers=2)
    for ours, theirs in zip(densities(parallel), densities(paths), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_run_settings_depend_on_seed_and_index_alone():
    many = dataclasses.replace(TINY, runs=100, density=(1.0, 300.0))
    assert many.cloud(2) == dataclasses.replace(many, runs=3).cloud(2)
    drawn = np.array([many.cloud(index).hydrogen_density for index in range(100)])
    assert drawn.min() >= 1.0
    assert drawn.max() <= 300.0
    assert np.median(drawn) == pytest.approx(np.sqrt(300), rel=0.5)


def test_energies_are_drawn_evenly_in_their_logarithm_and_change_nothing_else():
    spread = dataclasses.replace(TINY, energy=(1e50, 1e52))
    drawn = np.log10([spread.cloud(index).explosion_energy for index in range(300)])
    assert drawn.min() > 50
    assert drawn.max() < 52
    assert drawn.mean() == pytest.approx(51, abs=0.1)
    one = dataclasses.replace(spread.cloud(7), explosion_energy=1e51)
    assert one == TINY.cloud(7)


def test_a_record_that_is_older_than_a_setting_goes_on_with_its_default(done):
    output, _ = done
    record = output / "campaign.json"
    full = record.read_text()
    old = json.loads(full)
    del old["explosions"], old["site_reach"]
    record.write_text(json.dumps(old))
    assert len(run_campaign(TINY, output, workers=1)) == 3
    with pytest.raises(UserError, match="it differs in explosions"):
        run_campaign(dataclasses.replace(TINY, explosions=2), output, workers=1)
    record.write_text(full)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": 0}, "runs must be at least 1"),
        ({"density": (5.0, 1.0)}, "density needs a range"),
        ({"density": (0.0, 1.0)}, "density needs a range"),
        ({"mach": (-1.0, 1.0)}, "mach needs a range"),
        ({"energy": (2e51, 1e51)}, "energy needs a range"),
        ({"site": "galaxy"}, "site is three coordinates"),
        ({"fields": ("density", "entropy")}, "entropy"),
        ({"time_step": 0.0}, "time_step"),
        ({"voxels": 3}, "multiple of voxels"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **changes)


def test_a_scheduler_that_does_not_answer_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr("mim3d.jobs.SCHEDULER_TIMEOUT", "1s")
    with pytest.raises(UserError, match="no Dask scheduler answers"):
        run_campaign(TINY, tmp_path, scheduler="tcp://127.0.0.1:9")
