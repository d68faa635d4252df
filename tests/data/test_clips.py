"""Clips stream from disk, whole runs apart, and are functions of seed, epoch and index alone."""

import pickle
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units as u
from torch.utils.data import DataLoader

from mim3d.data import ClipDataset, ClipSampler, symmetries, well
from mim3d.data.derived import guide
from mim3d.errors import UserError
from mim3d.supernova import CloudSettings, simulate

FIELDS = ("density", "velocity")
DERIVED = ("affected", "site")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_like):
    """Twelve runs of five frames, two of them in one file."""
    folder = tmp_path_factory.mktemp("runs")
    for number in range(10):
        well.write(folder / f"run_{number:02d}.h5", run_like(number))
    well.write(folder / "pair.hdf5", [run_like(10), run_like(11, site=(15.0, 30.0, 45.0))])
    (folder / ".run_99.h5.abc.tmp").touch()
    (folder / "notes.txt").touch()
    return folder


def test_a_clip_is_the_run_scaled(folder, run_like):
    clips = ClipDataset(folder, FIELDS, DERIVED)
    clips.scaling = clips.fit_scaling()
    assert len(clips) == 12
    assert clips.channels == ("density", "velocity_x", "velocity_y", "velocity_z", "affected", "site")
    assert clips.vectors == ((1, 2, 3),)
    assert clips.time_step == pytest.approx(1 / 150)
    assert clips.units["density"] == u.Msun / u.pc**3
    number = next(i for i in range(12) if clips.run_of(i).path.name == "run_03.h5")
    item = clips[number]
    assert item.shape == (5, 6, 8, 8, 8)
    assert item.dtype == torch.float32
    back = clips.scaling.inverse(item)
    expected = run_like(3)
    np.testing.assert_allclose(back[:, 0], expected.fields["density"], rtol=1e-4)
    np.testing.assert_allclose(back[:, 3], expected.fields["velocity"][..., 2], rtol=1e-4, atol=1e-4)


def test_the_site_is_the_trajectory_s_own(folder):
    clips = ClipDataset(folder / "pair.hdf5", derived=("site",))
    assert len(clips) == 2
    centre, aside = (clips[number][0, 1] for number in range(2))
    assert centre[3, 3, 3] == centre.max()
    # (15, 30, 45) pc lies between voxels 1 and 2, 3 and 4, 5 and 6.
    assert aside[1, 3, 5] == pytest.approx(float(aside.max()))
    assert aside[2, 4, 6] == pytest.approx(float(aside.max()))


def test_windows(folder):
    clips = ClipDataset(folder / "run_00.h5", num_frames=2)
    whole = ClipDataset(folder / "run_00.h5")[0]
    assert len(clips) == 2
    torch.testing.assert_close(clips[1], whole[2:4], rtol=0, atol=0)
    overlapping = ClipDataset(folder / "run_00.h5", num_frames=2, stride=1)
    assert len(overlapping) == 4
    torch.testing.assert_close(overlapping[-1], whole[3:5], rtol=0, atol=0)
    with pytest.raises(IndexError):
        overlapping[4]


def test_parts_share_no_run_and_miss_none(folder):
    parts = [ClipDataset(folder, split=split) for split in ("train", "validation", "test")]
    names = [run.name for part in parts for run in part.runs]
    assert len(names) == len(set(names)) == 12
    assert all(len(part) for part in parts)
    assert {run.name for run in ClipDataset(folder).runs} == set(names)
    again = ClipDataset(folder, split="train", seed=5)
    assert again.runs == parts[0].runs, "the seed of the symmetries must not change the division"


def test_symmetries_are_a_function_of_seed_epoch_and_index(folder):
    clips = ClipDataset(folder, FIELDS, DERIVED, augment=True, seed=3)
    plain = ClipDataset(folder, FIELDS, DERIVED)
    other = ClipDataset(folder, FIELDS, DERIVED, augment=True, seed=3)
    _ = [clips[7, 1], clips[0, 0]]
    for epoch in (0, 4):
        other.set_epoch(epoch)
        for index in range(4):
            torch.testing.assert_close(clips[epoch, index], other[index], rtol=0, atol=0)
            torch.testing.assert_close(
                clips[epoch, index],
                symmetries.apply(plain[index], clips.symmetry(epoch, index), [(1, 2, 3)]),
                rtol=0,
                atol=0,
            )
    drawn = {clips.symmetry(epoch, index) for epoch in range(60) for index in range(12)}
    assert len(drawn) == 48
    seeds = [ClipDataset(folder, augment=True, seed=seed).symmetry(0, 0) for seed in range(20)]
    assert len(set(seeds)) > 10


def test_symmetries_keep_grid_and_box(tmp_path, run_like):
    well.write(tmp_path / "slab.h5", run_like(grid=(8, 8, 4)))
    assert len(ClipDataset(tmp_path, augment=True).symmetries) == 16
    well.write(tmp_path / "slab.h5", run_like(box_size=(60.0, 60.0, 30.0)))
    assert len(ClipDataset(tmp_path, augment=True).symmetries) == 16
    well.write(tmp_path / "slab.h5", run_like(grid=(8, 8)))
    assert len(ClipDataset(tmp_path, augment=True).symmetries) == 8


# From Python 3.12 on, a fork beside threads warns; the data set is what makes it safe.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_what_one_process_gives(folder, workers):
    clips = ClipDataset(folder, FIELDS, DERIVED, augment=True)
    _ = clips[0, 0]  # The parent's open file must not be used by the workers.
    sampler = ClipSampler(len(clips), seed=1)
    loader = DataLoader(clips, 4, sampler=sampler, num_workers=workers, persistent_workers=True)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        for number, batch in enumerate(loader):
            expected = torch.stack([clips[key] for key in order[4 * number : 4 * number + 4]])
            torch.testing.assert_close(batch, expected, rtol=0, atol=0)


def test_it_can_be_sent_to_another_process(folder):
    clips = ClipDataset(folder, augment=True)
    first = clips[2, 3]
    torch.testing.assert_close(pickle.loads(pickle.dumps(clips))[2, 3], first, rtol=0, atol=0)


def test_memory_does_not_grow_with_the_data(tmp_path, run_like):
    for number in range(6):
        well.write(tmp_path / f"{number}.h5", run_like(number, frames=10, grid=(32, 32, 32), twin=False))
    clips = ClipDataset(tmp_path, num_frames=2)
    _ = clips[0]
    tracemalloc.start()
    for number in range(len(clips)):
        _ = clips.clip(number)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(clips) == 30
    assert peak < 2e6, "the files hold 31 MB"


def test_more_files_than_may_be_open_at_once(folder, monkeypatch):
    monkeypatch.setattr("mim3d.data.clips._MOST_OPEN_FILES", 3)
    clips = ClipDataset(folder)
    for _ in range(2):
        for number in range(len(clips)):
            _ = clips[number]
    assert len(clips._files) == 3


def test_sampler_orders():
    sampler = ClipSampler(10, seed=4)
    first = list(sampler)
    assert [epoch for epoch, _ in first] == [0] * 10
    assert sorted(index for _, index in first) == list(range(10))
    sampler.set_epoch(1)
    second = list(sampler)
    assert [index for _, index in second] != [index for _, index in first]
    sampler.set_epoch(1, start=6)
    assert list(sampler) == second[6:]
    assert len(sampler) == 4
    assert list(ClipSampler(3, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(("clips", "processes"), [(10, 2), (10, 4), (3, 8)])
def test_processes_share_the_order(clips, processes):
    whole = [index for _, index in ClipSampler(clips, seed=2)]
    shares = [list(ClipSampler(clips, seed=2, rank=rank, world_size=processes)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    interleaved = [share[number][1] for number in range(len(shares[0])) for share in shares]
    assert interleaved[:clips] == whole
    assert set(interleaved) == set(range(clips))
    with pytest.raises(ValueError, match="rank must be in"):
        ClipSampler(clips, rank=processes, world_size=processes)


def test_folders_that_cannot_be_used_are_named(tmp_path, folder, run_like):
    with pytest.raises(UserError, match=r"no folder .*missing"):
        ClipDataset(tmp_path / "missing")
    with pytest.raises(UserError, match=r"holds no \*\.h5 or \*\.hdf5 files"):
        ClipDataset(tmp_path)
    with pytest.raises(UserError, match="no files were given"):
        ClipDataset([])
    with pytest.raises(UserError, match=r"clips of 6 frames are wanted; .* has 5"):
        ClipDataset(folder, num_frames=6)
    with pytest.raises(UserError, match="no field 'entropy'"):
        ClipDataset(folder, ("entropy",))
    with pytest.raises(UserError, match="no derived channel 'shell'"):
        ClipDataset(folder, derived=("shell",))
    with pytest.raises(UserError, match="split is 'valid'"):
        ClipDataset(folder, split="valid")
    with pytest.raises(UserError, match="stride must be >= 1"):
        ClipDataset(folder, stride=-1)
    well.write(tmp_path / "alone.h5", run_like(twin=False))
    with pytest.raises(UserError, match="no twin without explosion"):
        ClipDataset(tmp_path, derived=("affected",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"grid": (8, 8, 4)},
            r"b\.h5 does not fit the other files: its grid is \(8, 8, 4\), that of .*a\.h5",
        ),
        ({"box_size": (30.0,) * 3}, "its box size is"),
        (
            {"units": {"density": u.kg / u.m**3, "velocity": u.km / u.s}},
            "its unit of density is kg / m3, that of .* is solMass / pc3",
        ),
    ],
)
def test_files_that_do_not_fit_together_are_named(tmp_path, run_like, changes, message):
    well.write(tmp_path / "a.h5", run_like(twin=False))
    well.write(tmp_path / "b.h5", run_like(twin=False, **changes))
    with pytest.raises(UserError, match=message):
        ClipDataset(tmp_path)


def test_a_scaling_of_other_channels_is_refused(folder):
    scaling = ClipDataset(folder).fit_scaling()
    with pytest.raises(UserError, match=r"scaling is of \('density',\), the clips' channels are"):
        ClipDataset(folder, FIELDS, scaling=scaling)


def test_uneven_times_have_no_step(tmp_path, run_like):
    well.write(tmp_path / "run.h5", run_like(times=np.array([0, 1, 2, 4, 8]) / 150))
    assert ClipDataset(tmp_path).time_step is None


def test_a_window_holds_the_site_and_moves_from_epoch_to_epoch(folder):
    whole = ClipDataset(folder, derived=["site"])
    cut = ClipDataset(folder, derived=["site"], window=4, augment=True, seed=1)
    assert cut[0, 0].shape[2:] == (4,) * len(whole.grid)
    assert torch.equal(cut[3, 0], cut[3, 0])
    for epoch in range(4):
        marker = cut[epoch, 0][0, -1]
        assert marker.max() == pytest.approx(whole[0][0, -1].max().item())


def test_an_unaugmented_window_is_the_middle_of_the_box_around_the_site(folder):
    whole, cut = ClipDataset(folder)[0], ClipDataset(folder, window=4)[0]
    start = (whole.shape[-1] - 4) // 2
    middle = slice(start, start + 4)
    torch.testing.assert_close(cut, whole[:, :, middle, middle, middle])


def test_a_window_larger_than_the_box_is_refused(folder):
    with pytest.raises(UserError, match="a window must have 1 to"):
        ClipDataset(folder, window=1000)


def test_static_fields_are_those_of_the_last_input_frame(folder, run_like):
    clips = ClipDataset(
        folder, derived=["affected"], static=["site", "velocity"], num_frames=2, stride=1, input_length=2
    )
    velocity = ("velocity_x", "velocity_y", "velocity_z")
    assert clips.channels == ("density", "affected", "site", *velocity)
    assert clips.static_channels == ("site", *velocity)
    assert clips.vectors == ((3, 4, 5),)
    assert clips.units["velocity"] == u.km / u.s
    second = next(i for i in range(len(clips)) if clips.run_of(i).path.name == "run_03.h5") + 1
    expected = np.moveaxis(run_like(3).fields["velocity"][2], -1, 0)
    for frame in clips[second]:
        np.testing.assert_allclose(frame[3:], expected, rtol=1e-6)
    cached = ClipDataset(
        folder,
        derived=["affected"],
        static=["site", "velocity"],
        num_frames=2,
        stride=1,
        input_length=2,
    )
    cached.load()
    torch.testing.assert_close(cached[second], clips[second], rtol=6e-4, atol=0)


def test_loaded_clips_are_those_that_are_read(folder):
    """Cut, turned and scaled alike, but for the rounding of half precision."""
    settings = {"static": ["site"], "augment": True, "seed": 3, "window": 5}
    scaling = ClipDataset(folder, FIELDS, ["affected"], static=["site"]).fit_scaling()
    read = ClipDataset(folder, FIELDS, ["affected"], scaling=scaling, **settings)
    loaded = ClipDataset(folder, FIELDS, ["affected"], scaling=scaling, **settings)
    loaded.load()
    loaded.load()
    for index in range(4):
        torch.testing.assert_close(loaded[2, index], read[2, index], rtol=6e-4, atol=1e-6)
        assert loaded[2, index].dtype == torch.float32
    # In one piece, and no file is opened again.
    assert len({moving.untyped_storage().data_ptr() for moving, _ in loaded._loaded}) == 1
    assert not loaded._files


def test_static_vectors_turn_with_the_gas(folder):
    static = ClipDataset(folder, static=["velocity"], augment=True, seed=3)
    read = ClipDataset(folder, FIELDS, augment=True, seed=3)
    assert torch.equal(static[2, 1][0], read[2, 1][0])
    assert torch.equal(static[2, 1][-1, 1:], read[2, 1][0, 1:])


@pytest.mark.parametrize(
    ("static", "said"), [(["density"], "both forecast and static"), (["entropy"], "no field 'entropy'")]
)
def test_what_cannot_be_static(folder, static, said):
    with pytest.raises(UserError, match=said):
        ClipDataset(folder, static=static)


@pytest.fixture(scope="module")
def gas(tmp_path_factory):
    """Two supernovae, stored coarser than they were simulated."""
    folder = tmp_path_factory.mktemp("gas")
    times = tuple(frame / 150 for frame in range(5))
    for seed in range(2):
        cloud = CloudSettings(grid=16, voxels=8, frame_times=times, seed=seed)
        well.write(
            folder / f"run_{seed}.h5", simulate([cloud], fields=("density", "temperature", "velocity"))
        )
    return folder


GAS = {"fields": ("density", "velocity"), "derived": ("affected",), "static": ("site",), "guided": True}


def test_a_guide_is_what_the_solver_makes_of_the_first_frame(gas):
    clips = ClipDataset(gas, **GAS)
    clips.scaling = clips.fit_scaling()
    assert clips.channels[-2:] == ("affected", "site")
    item = clips[1]
    assert item.shape == (5, 6 + 5, 8, 8, 8)
    frames, ahead = item[:, :5], item[:, 6:]
    assert torch.equal(ahead[0], frames[0])
    with well.open(gas / "run_1.h5") as file:
        run = file.trajectory(0)
    made = guide(run.window(0, 1), run.times[1:].tolist(), ("density", "velocity", "affected"))
    moving = clips.scaling.select(clips.channels[:5])
    torch.testing.assert_close(ahead[1:], moving.forward(torch.from_numpy(made)), atol=5e-3, rtol=2e-3)
    # Eight voxels a side know little, but more than the first frame does.
    error = (ahead[-1, 0] - frames[-1, 0]).abs().mean()
    assert 0 < error < (frames[0, 0] - frames[-1, 0]).abs().mean()


def test_a_guide_is_cut_and_turned_with_the_gas(gas):
    plain, turned = (ClipDataset(gas, **GAS, augment=augment, window=4) for augment in (False, True))
    epoch = next(
        e
        for e in range(200)
        if turned.symmetry(e, 0) != turned.symmetries[0] and turned._cut(e, 0) == plain._cut(e, 0)
    )
    expected = symmetries.apply(plain[epoch, 0], turned.symmetry(epoch, 0), [(1, 2, 3), (7, 8, 9)])
    torch.testing.assert_close(turned[epoch, 0], expected)
    turned.load()
    torch.testing.assert_close(turned[epoch, 0], expected, atol=2e-3, rtol=2e-3)


def test_the_first_clips_are_a_data_set_of_their_own(gas):
    clips = ClipDataset(gas, **GAS)
    clips.load()
    part = clips.first(1)
    assert len(part) == 1
    assert not part._loaded
    part.load()
    assert torch.equal(part[0], clips[0])
    assert len(clips) == 2
    assert len(clips._loaded) == 2


def test_loading_can_be_watched(gas):
    seen = []
    clips = ClipDataset(gas, **GAS)
    clips.load(lambda numbers: (seen.append(number) or number for number in numbers))
    assert seen == [0, 1]


def test_a_guide_knows_no_more_than_the_network(gas):
    clips = ClipDataset(gas, fields=("density",), guided=True)
    with well.open(gas / "run_0.h5") as file:
        start = file.trajectory(0).window(0, 1)
    still = replace(start, fields={**start.fields, "velocity": 0 * start.fields["velocity"]})
    times = [1 / 150, 2 / 150, 3 / 150, 4 / 150]
    ahead = clips[0][1:, 1]
    torch.testing.assert_close(
        ahead, torch.from_numpy(guide(still, times, ["density"])[:, 0]), rtol=2e-3, atol=0
    )
    assert not torch.allclose(
        ahead, torch.from_numpy(guide(start, times, ["density"])[:, 0]), rtol=2e-2, atol=0
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_length": 2}, "start with the first frame of a run, and that alone is their input"),
        ({"num_frames": 3, "stride": 1}, "start with the first frame of a run"),
        (
            {"fields": ("density", "pressure")},
            "no guide to 'pressure': the gas solver gives density, temperature",
        ),
    ],
)
def test_what_cannot_be_guided(gas, tmp_path, changes, said):
    folder = gas
    if "pressure" in changes.get("fields", ()):
        cloud = CloudSettings(grid=8, voxels=8, frame_times=(0.0, 1 / 150))
        well.write(tmp_path / "run.h5", simulate([cloud]))
        folder = tmp_path
    with pytest.raises(UserError, match=said):
        ClipDataset(folder, **{**GAS, **changes})[0]
