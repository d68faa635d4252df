"""Echoes that move without changing are extrapolated where they will be."""

import numpy as np
import pytest

from mim3d.errors import UserError
from mim3d.metrics import extrapolate_echoes


def storm(frames, speed=2.0, size=64):
    """Echoes [dBZ] that move to the right."""
    y, x = np.mgrid[:size, :size]
    spots = [(14.0, 20.0, 4.0), (22.0, 40.0, 5.0), (8.0, 50.0, 3.5), (30.0, 12.0, 4.5)]
    return np.stack(
        [
            sum(
                50 * np.exp(-((x - left - speed * k) ** 2 + (y - top) ** 2) / (2 * width**2))
                for left, top, width in spots
            )
            for k in range(frames)
        ]
    ).astype(np.float32)


def test_moving_echoes_are_followed():
    pytest.importorskip("pysteps")
    pytest.importorskip("cv2")
    echoes = storm(9)
    given, truth = echoes[:3], echoes[3:]
    moved = extrapolate_echoes(given, 6)
    assert (moved.shape, moved.dtype) == (truth.shape, np.float32)
    assert np.isfinite(moved).all()
    error = np.abs(moved - truth).mean(axis=(1, 2))
    kept = np.abs(given[-1] - truth).mean(axis=(1, 2))
    assert (error < 0.35 * kept).all()
    # Frames that are not needed are not looked at.
    longer = np.concatenate([np.full((4, 64, 64), np.nan, np.float32), given])
    np.testing.assert_array_equal(extrapolate_echoes(longer, 6), moved)


def test_pixels_that_were_not_measured_stay_so():
    pytest.importorskip("pysteps")
    pytest.importorskip("cv2")
    given = storm(3)
    given[:, :, -6:] = np.nan
    moved = extrapolate_echoes(given, 2)
    assert np.isnan(moved[..., -1]).all()
    assert np.isfinite(moved[..., :40]).all()


def test_one_frame_does_not_tell_a_motion():
    with pytest.raises(UserError, match="two frames or more"):
        extrapolate_echoes(storm(1), 2)


def test_without_pysteps_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(UserError, match=r"mim3d\[nowcast\]"):
        extrapolate_echoes(storm(3), 2)
