from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mim3d.errors import UserError
from mim3d.training import ForecastDataModule
from mim3d.training.data_module import BatchStream, check_runs
from mim3d.training.recipe import load_recipe


def test_every_clip_is_seen_once_an_epoch_across_the_seams():
    stream = BatchStream(5, 2, steps=10, seed=3)
    drawn = [clip for batch in stream for clip in batch]
    for epoch in range(4):
        assert Counter(index for e, index in drawn if e == epoch) == Counter(range(5))
    orders = [[index for e, index in drawn if e == epoch] for epoch in range(4)]
    assert orders[0] != orders[1]


def test_stream_goes_on_where_it_stopped():
    whole = list(BatchStream(5, 4, steps=9, seed=1, parts=2))
    rest = BatchStream(5, 4, steps=9, start=4, seed=1, parts=2)
    assert list(rest) == whole[8:]
    assert len(rest) == len(whole)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_step_takes_the_same_clips_whatever_the_number_of_processes(world_size):
    alone = BatchStream(7, 8, steps=3, seed=5)
    shares = [
        list(BatchStream(7, 8, steps=3, seed=5, parts=2, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for step in range(3):
        together = [share[2 * step + part] for part in range(2) for share in shares]
        assert [clip for part in together for clip in part] == alone.batch(step)


def test_time_reversed_training_takes_every_batch_twice():
    batches = list(BatchStream(6, 2, steps=6, repeats=2))
    assert batches[0::2] == batches[1::2]


def test_batch_that_cannot_be_shared():
    with pytest.raises(UserError, match="shared equally by 3 processes"):
        BatchStream(8, 4, steps=1, world_size=3)


def test_training_and_validation_never_share_a_run(recipe):
    data = ForecastDataModule(recipe())
    names = data.run_names
    assert names["train"]
    assert names["validation"]
    assert not set(names["train"]) & set(names["validation"])
    assert data.run_names == ForecastDataModule(recipe("--training.seed=7")).run_names


def test_channels_and_scaling(recipe):
    data = ForecastDataModule(recipe())
    assert data.channels == ("density", "affected")
    assert data.training.channels == ("density", "affected", "site")
    data.setup("fit")
    assert data.scaling is not None
    assert data.scaling.kinds == ("log", "none", "none")
    assert data.validation is not None
    assert data.validation.scaling is data.scaling


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.folder=nowhere"], "no folder nowhere"),
        (["--data.fields=[pressure]"], "no field 'pressure'"),
        (["--data.frames=9"], "9 frames are wanted"),
        (["--data.static=[star]"], "star"),
    ],
)
def test_data_that_do_not_fit(recipe, flags, said):
    with pytest.raises(UserError, match=said):
        ForecastDataModule(recipe(*flags))


def test_empty_folder(recipe, tmp_path: Path):
    with pytest.raises(UserError, match="holds no"):
        ForecastDataModule(recipe(f"--data.folder={tmp_path}"))
    with pytest.raises(UserError, match=r"data\.folder is not given"):
        ForecastDataModule(recipe("--data.folder="))


def test_other_runs_cannot_be_resumed_with():
    before = {"train": ["a", "b"], "validation": ["c"]}
    check_runs(before, before)
    with pytest.raises(UserError, match="train run b is no longer"):
        check_runs(before, {"train": ["a"], "validation": ["c"]})
    with pytest.raises(UserError, match="validation run d was not there"):
        check_runs(before, {"train": ["a", "b"], "validation": ["c", "d"]})


def test_a_named_data_set_without_a_validation_share_is_not_validated_on(tmp_path):
    times = np.datetime64("2019-06-10T00:00:00") + np.arange(24) * np.timedelta64(2, "m")
    np.savez(tmp_path / "storm.npz", times=times, reflectivity=np.zeros((24, 16, 16), np.float32))
    flags = [
        f"--data.folder={tmp_path}",
        "--data.frames=4",
        "--data.input_length=2",
        "--data.options.tile=16",
    ]
    some = ForecastDataModule(load_recipe("radar-small", [*flags, "--data.options.shares=[0.6, 0.2, 0.2]"]))
    assert some.validation is not None
    assert len(some.validation) == 2
    none = ForecastDataModule(load_recipe("radar-small", [*flags, "--data.options.shares=[0.6, 0, 0.4]"]))
    assert none.validation is None
