"""A trajectory takes what fits together and refuses the rest."""

import numpy as np
import pytest
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory

UNITS = {"density": u.Msun / u.pc**3, "velocity": u.km / u.s}


def trajectory(frames=4, grid=(2, 3, 5), **changes):
    axes = len(grid)
    count = frames * int(np.prod(grid))
    return Trajectory(
        **{
            "fields": {
                "density": np.arange(count).reshape(frames, *grid),
                "velocity": np.arange(count * axes).reshape(frames, *grid, axes),
            },
            "units": UNITS,
            "times": np.arange(frames) / 150,
            "box_size": (60.0, 30.0, 20.0)[:axes],
            **changes,
        }
    )


@pytest.mark.parametrize("grid", [(4,), (4, 6), (2, 3, 5)])
def test_grid_axes_and_voxels(grid):
    run = trajectory(grid=grid)
    assert run.grid == grid
    assert run.num_axes == len(grid)
    assert len(run) == 4
    assert run.is_vector("velocity")
    assert not run.is_vector("density")
    np.testing.assert_allclose(run.voxel_size, np.array(run.box_size) / grid)


def test_the_site_is_the_centre_unless_given():
    assert trajectory().site == (30.0, 15.0, 10.0)
    assert trajectory(origin=(-30, -15, -10)).site == (0.0, 0.0, 0.0)
    assert trajectory(site=np.array([1, 2, 3])).site == (1.0, 2.0, 3.0)


def test_channels_are_the_components_of_vectors():
    run = trajectory()
    assert run.channel_names(("velocity", "density")) == (
        "velocity_x",
        "velocity_y",
        "velocity_z",
        "density",
    )
    channels = run.to_channels(("velocity", "density"))
    assert channels.shape == (4, 4, 2, 3, 5)
    np.testing.assert_array_equal(channels[:, 1], run.fields["velocity"][..., 1])
    np.testing.assert_array_equal(channels[:, 3], run.fields["density"])
    with pytest.raises(UserError, match="no field 'entropy' here; there are: density, velocity"):
        run.to_channels(("entropy",))


def test_a_window_takes_the_twin_along():
    run = trajectory(twin=trajectory(fields={"density": np.ones((4, 2, 3, 5))}))
    part = run.window(1, 3)
    np.testing.assert_array_equal(part.times, run.times[1:3])
    np.testing.assert_array_equal(part.fields["velocity"], run.fields["velocity"][1:3])
    assert part.twin is not None
    assert len(part.twin) == 2
    assert part.site == run.site


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {}}, "at least one field"),
        ({"units": {"density": u.kg}}, "'velocity' has no unit"),
        ({"times": [0, 1, 1, 2]}, "strictly increasing"),
        ({"times": [0, 1, np.nan, 2]}, "strictly increasing"),
        ({"times": [0, 1, 2]}, "'density' has 4 frames, times has 3"),
        ({"box_size": (60.0, -1.0, 1.0)}, "box_size must be > 0"),
        ({"box_size": (60.0, np.inf, 1.0)}, "box_size must be > 0"),
        ({"box_size": (1.0, 1.0, 1.0, 1.0)}, "1 to 3 axes"),
        ({"box_size": (1.0, 1.0)}, r"'density' has shape \(4, 2, 3, 5\)"),
        ({"origin": (0.0, 0.0)}, "origin needs one finite coordinate for each of 3 axes"),
        ({"site": (0.0, 0.0, np.nan)}, "site needs one finite coordinate"),
        ({"boundary": "leaky"}, "boundary must be one of open, periodic, wall, mixed, found 'leaky'"),
        ({"fields": {"density": np.ones((4, 0, 3, 5))}}, "no voxels"),
        (
            {"fields": {"density": np.ones((4, 2, 3, 5)), "velocity": np.ones((4, 2, 3, 4, 3))}},
            r"'velocity' is on a grid of \(2, 3, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        trajectory(**changes)


def test_a_twin_at_other_times_is_refused():
    twin = trajectory(times=np.arange(4) / 100)
    with pytest.raises(UserError, match="twin must be on the same grid at the same times"):
        trajectory(twin=twin)
    with pytest.raises(UserError, match="twin must be on the same grid"):
        trajectory(twin=trajectory(grid=(2, 3, 4)))
