"""What all readers of radar files give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Quantity = Literal["reflectivity", "rain_rate", "vil"]
"""`reflectivity` [dBZ], `rain_rate` [mm/h], or `vil`: SEVIR's levels of vertically integrated liquid."""

NO_ECHO = -np.inf
"""Reflectivity of a pixel that was measured and sent nothing back [dBZ]."""


@dataclass(frozen=True)
class RadarFrames:
    """Frames of one place in one file, read when they are asked for.

    Parameters
    ----------
    path
        The file.
    quantity
        What was measured.
    times
        `(T,)` datetime64[s], UTC.
    grid
        Rows, from north to south, and columns, from west to east.
    read
        `read(rows)` returns frames `(len(rows), *grid)` float32; pixels that were not measured are NaN.
        Raises `UserError` where the file is damaged.
    place
        Where the frames are of, in files that hold several places.
    """

    path: Path
    quantity: Quantity
    times: np.ndarray
    grid: tuple[int, int]
    read: Callable[[Sequence[int]], np.ndarray]
    place: str = ""
