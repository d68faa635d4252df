"""Images that move through a box on straight lines and bounce off its walls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mim3d.errors import UserError

SPEEDS = {"mim": (3.0, 5.0), "toronto": (3.6, 3.6)}
"""Laws of speed by name, as the lowest and the highest speed [pixels per frame].

`"mim"`: every digit has its own speed, uniform between 3 and 5, as in the published pictures of MIM
(arXiv 1811.07490). `"toronto"`: all have 3.6, a tenth of the 36 pixels of room, as in the test file of
arXiv 1502.04681 and in OpenSTL (arXiv 2306.11249).
"""

Speed = str | float | Sequence[float]


def speed_range(speed: Speed) -> tuple[float, float]:
    """Return the lowest and highest speed [pixels per frame] of a law.

    Parameters
    ----------
    speed
        A key of `SPEEDS`, one speed, or the lowest and the highest.

    Raises
    ------
    UserError
        If it is none of these, or below zero.
    """
    if isinstance(speed, str):
        if speed in SPEEDS:
            return SPEEDS[speed]
        try:
            speed = float(speed)
        except ValueError:
            raise UserError(
                f"speed is {speed!r}; it must be {' or '.join(map(repr, SPEEDS))}, a number of pixels per "
                "frame, or the lowest and the highest"
            ) from None
    values = (float(speed),) * 2 if isinstance(speed, int | float) else tuple(float(v) for v in speed)
    if len(values) != 2 or not 0 <= values[0] <= values[1] < np.inf:
        raise UserError(f"speed must be 0 <= lowest <= highest in pixels per frame, found {speed}")
    return values


def directions(random: np.random.Generator, count: int, num_axes: int) -> np.ndarray:
    """Return `(count, num_axes)` unit vectors, every direction equally likely."""
    vectors = random.normal(size=(count, num_axes))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def bounce(start: np.ndarray, velocity: np.ndarray, room: np.ndarray, num_frames: int) -> np.ndarray:
    """Move points between the walls at 0 and `room`.

    A point that would go through a wall stays at the wall for that frame and then goes back, each axis on its
    own. The first frame comes after one step from `start`. Both as in the generator of arXiv 1502.04681.

    Parameters
    ----------
    start, velocity
        `(points, axes)` [pixels], [pixels per frame].
    room
        `(axes,)` [pixels].
    num_frames
        Steps.

    Returns
    -------
    np.ndarray
        Positions `(num_frames, points, axes)`.
    """
    position, velocity = start.astype(np.float64), velocity.astype(np.float64)
    positions = np.empty((num_frames, *start.shape))
    for frame in range(num_frames):
        position = position + velocity
        outside = (position <= 0) | (position >= room)
        velocity = np.where(outside, -velocity, velocity)
        position = np.clip(position, 0, room)
        positions[frame] = position
    return positions


def draw(images: Sequence[np.ndarray], positions: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Draw every image by itself at its position in every frame.

    Parameters
    ----------
    images
        One array over space each.
    positions
        `(T, images, axes)`: the corner with the lowest indices, truncated to whole pixels.
    grid
        Of the frames.

    Returns
    -------
    np.ndarray
        `(T, images, *grid)`, zero around the images.
    """
    frames = np.zeros((*positions.shape[:2], *grid), images[0].dtype)
    corners = positions.astype(np.int64)
    for frame, of_frame in zip(frames, corners, strict=True):
        for canvas, image, corner in zip(frame, images, of_frame, strict=True):
            place = tuple(slice(c, c + size) for c, size in zip(corner, image.shape, strict=True))
            canvas[place] = image
    return frames
