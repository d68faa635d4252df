"""Pictures: that they are there, look as they must where that can be measured, and say the truth."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from matplotlib.figure import Figure
from PIL import Image

from mim3d.data import well
from mim3d.fields import Trajectory
from mim3d.forecasting import Forecast, Forecaster
from mim3d.report import (
    animate_forecast,
    compare,
    draw_evaluation,
    draw_summary,
    evaluate,
    forecast_table,
    render_frames,
    speed_lines,
)
from mim3d.report.animation import _palette
from mim3d.report.slices import Slicer
from mim3d.report.style import choose_shown


@pytest.fixture(scope="module")
def forecast(small_blast, blast_like):
    """A forecast that lags a little behind."""
    slower = blast_like(grid=16, speed=0.9)
    density = slower.fields["density"][1:]
    affected = np.abs(density / small_blast.fields["density"][:1] - 1) > 0.1
    return Forecast(
        trajectory=Trajectory(
            fields={"density": density, "affected": affected.astype(np.float32)},
            units={"density": u.Msun / u.pc**3, "affected": u.dimensionless_unscaled},
            times=small_blast.times[1:],
            box_size=small_blast.box_size,
        ),
        initial=replace(small_blast.window(0, 1), twin=None),
        seconds=0.5,
        model="stand-in",
        device="cpu",
        affected_is_forecast=True,
    )


@pytest.fixture(scope="module")
def comparison(forecast, small_blast):
    return compare(forecast, small_blast)


@pytest.fixture(scope="module")
def frames(comparison):
    return render_frames(comparison)


def test_compare_measures_both_alike(comparison, forecast, small_blast):
    assert comparison.scores["iou"][-1] > 0.4
    assert comparison.scores["mid_plane_error"][-1] < comparison.scores["persistence_mid_plane_error"][-1]
    ratio = comparison.forecast_shell.radius[-1] / comparison.simulation_shell.radius[-1]
    assert ratio == pytest.approx(0.9, abs=0.05)
    assert comparison.simulation_shell.radius[0] == 0
    assert comparison.simulation_shell.affected_volume[-1] > comparison.forecast_shell.affected_volume[-1]
    assert comparison.simulation_seconds == 12.5
    assert comparison.speed_up == 25
    perfect = replace(
        forecast,
        trajectory=replace(
            forecast.trajectory,
            fields={**forecast.trajectory.fields, "density": small_blast.fields["density"][1:]},
        ),
    )
    np.testing.assert_allclose(compare(perfect, small_blast).scores["mid_plane_error"], 0, atol=1e-12)


def test_the_gif_loops_over_all_frames_with_few_colours(comparison, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("mim3d.report.animation.render_frames", lambda comparison: frames)
    animate_forecast(comparison, tmp_path / "forecast.gif")
    assert (tmp_path / "forecast.gif").stat().st_size < 3e6
    with Image.open(tmp_path / "forecast.gif") as image:
        assert image.n_frames == 20
        assert image.info["loop"] == 0
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
    assert durations[-1] > 5 * durations[1]
    assert len(_palette()) == 3 * 256


def test_frames_keep_their_place_and_scale(frames):
    assert len(frames) == 20
    assert {frame.shape for frame in frames} == {frames[0].shape}
    # The colour bars, at the bottom, do not change; the panels do.
    height = frames[0].shape[0]
    bars = slice(int(0.86 * height), height)
    assert all(np.array_equal(frame[bars], frames[0][bars]) for frame in frames)
    assert not np.array_equal(frames[0], frames[-1])


def test_the_first_frame_shows_no_difference(frames):
    first, last = frames[0], frames[-1]
    height, width, _ = first.shape
    panel = (slice(int(0.3 * height), int(0.7 * height)), slice(int(0.75 * width), int(0.95 * width)))
    assert len(np.unique(first[panel].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(last[panel].reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("with_truth", [True, False])
def test_the_summary_is_a_picture_of_some_size(comparison, forecast, tmp_path, with_truth):
    draw_summary(comparison if with_truth else compare(forecast), tmp_path / "summary.png")
    with Image.open(tmp_path / "summary.png") as image:
        assert min(image.size) > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 100


def test_images_without_density_are_drawn_too(tmp_path):
    frames = np.random.default_rng(0).uniform(size=(6, 8, 8))

    def images(values, start):
        return Trajectory(
            fields={"channel_0": values},
            units={"channel_0": u.dimensionless_unscaled},
            times=np.arange(len(values)) + float(start),
            box_size=(8.0, 8.0),
            time_unit=u.dimensionless_unscaled,
            length_unit=u.pix,
        )

    forecast = Forecast(images(frames[2:], 2), images(frames[:2], 0), 0.1, "images", "cpu")
    comparison = compare(forecast, images(frames, 0))
    assert comparison.scores is None
    animate_forecast(comparison, tmp_path / "forecast.gif")
    draw_summary(comparison, tmp_path / "summary.png")
    assert forecast_table(comparison).row_count == 4


def test_slices_go_through_the_site_with_y_upwards():
    values = np.arange(4 * 5 * 6).reshape(1, 4, 5, 6)
    trajectory = Trajectory(
        fields={"density": values},
        units={"density": u.Msun / u.pc**3},
        times=np.zeros(1),
        box_size=(4.0, 5.0, 6.0),
        site=(0.5, 1.0, 4.2),
    )
    slicer = Slicer(trajectory)
    np.testing.assert_array_equal(slicer(values[0]), values[0, :, :, 4].T)
    assert slicer.extent == (-0.5, 3.5, -1.0, 4.0)


def test_colours_cover_gas_of_any_density(small_blast):
    for factor, low, high in ((1, 1, 300), (0.02, 0.02, 5), (20, 20, 5000)):
        gas = replace(small_blast, fields={"density": factor * small_blast.fields["density"]}, twin=None)
        shown = choose_shown(gas, gas)
        assert (shown.low, shown.high) == (low, high)


def test_the_table_has_a_row_a_frame_and_no_empty_columns(comparison, forecast):
    table = forecast_table(comparison)
    assert table.row_count == 19
    assert len(table.columns) == 6
    alone = forecast_table(compare(forecast))
    assert [str(column.header).split("\n")[0] for column in alone.columns] == [
        "time",
        r"shell \[pc]",
        "affected",
    ]


def test_speed_is_said_only_where_it_is_known(comparison, forecast):
    assert "25.0 times faster" in " ".join(speed_lines(comparison))
    slow = replace(comparison, simulation_seconds=0.25)
    assert "2.0 times slower" in " ".join(speed_lines(slow))
    assert len(speed_lines(compare(forecast))) == 1


def test_no_legend_of_an_evaluation_hides_a_curve(tmp_path, make_checkpoint, small_blast, monkeypatch):
    well.write(tmp_path / "run.h5", small_blast)
    evaluation = evaluate(Forecaster(make_checkpoint(), "cpu"), tmp_path / "run.h5", members=2)
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **options: drawn.append(self) or save(self, *args, **options)
    )
    draw_evaluation(evaluation, tmp_path / "evaluation.png")
    (figure,) = drawn
    legends = [(axes, axes.get_legend()) for axes in figure.axes if axes.get_legend() is not None]
    assert len(legends) >= 6
    for axes, legend in legends:
        own = legend.get_window_extent()
        assert own.y1 < axes.get_window_extent().y0, axes.get_title("left")
        assert not any(own.overlaps(other.get_window_extent()) for other in figure.axes if other.axison)


def test_drawing_takes_nothing_of_what_trains():
    """It takes seconds to import, which every forecast would wait for."""
    program = "import sys, mim3d.report; sys.exit('pytorch_lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
