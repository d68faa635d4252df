"""Echoes carried on along their motion, the reference forecast of radar images beside persistence."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np

from mim3d.errors import UserError

_MOST_FRAMES = 3
"""Frames that the motion is taken from."""


def extrapolate_echoes(given: np.ndarray, steps: int) -> np.ndarray:
    """Move the last frame on along the motion of the last three, with pysteps.

    The motion is that of Lucas and Kanade's optical flow, made dense; the echoes move along it by the
    backward semi-Lagrangian scheme and keep their strength. What would come from outside of the image, or
    from where nothing was measured, keeps the last frame's value, so that the same pixels are scored as
    of other forecasts.

    Parameters
    ----------
    given
        Frames `(T, height, width)`, T at least 2, evenly apart; NaN where nothing was measured. Reflectivity,
        or anything else in which echoes look the same from frame to frame.
    steps
        Frames to forecast, as far apart.

    Returns
    -------
    numpy.ndarray
        `(steps, height, width)`, of the type of `given`.

    Raises
    ------
    UserError
        If there is one frame alone, or pysteps is not installed.

    References
    ----------
    Pulkkinen et al. 2019, Geosci. Model Dev. 12, 4185 (pysteps); Germann & Zawadzki 2002, Mon. Weather Rev.
    130, 2859.
    """
    if len(given) < 2:
        raise UserError("an extrapolation needs two frames or more, to see how the echoes move")
    try:
        # It tells on standard output where its settings are.
        with contextlib.redirect_stdout(io.StringIO()):
            # pysteps itself would say only later that OpenCV is missing.
            import cv2  # noqa: F401  # pyright: ignore[reportMissingImports]
            from pysteps.motion.lucaskanade import (  # pyright: ignore[reportMissingImports]
                dense_lucaskanade,
            )
            from pysteps.nowcasts.extrapolation import (  # pyright: ignore[reportMissingImports]
                forecast,
            )
    except ImportError as error:
        raise UserError(
            "the extrapolation needs pysteps and OpenCV, which are not installed: "
            f"pip install 'mim3d[nowcast]' ({error})"
        ) from None
    frames = np.asarray(given[-_MOST_FRAMES:], np.float64)
    with warnings.catch_warnings():
        # Of echoes too few to tell which of them move otherwise than the rest.
        warnings.simplefilter("ignore", UserWarning)
        velocity = dense_lucaskanade(frames)
    moved = forecast(frames[-1], velocity, steps)
    return np.where(np.isnan(moved), frames[-1], moved).astype(given.dtype)
