"""Forecasts of the sequences of a data set, beside what came."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mim3d.data.sequences import Sequences
from mim3d.errors import UserError
from mim3d.forecasting import Forecaster


@dataclass(frozen=True)
class ImageForecast:
    """One sequence of a data set, and what a network made of its first frames.

    Parameters
    ----------
    sequences
        The data set.
    index
        Which sequence.
    given
        Frames that the forecast started from `(T_in, C, *space)`, scaled as the data set's items; NaN where
        nothing was measured.
    truth, forecast
        Frames that followed, and as forecast, `(T, C, *space)`; the truth is NaN where nothing was measured.
    seconds
        Wall-clock time that the network took.
    """

    sequences: Sequences
    index: int
    given: np.ndarray
    truth: np.ndarray
    forecast: np.ndarray
    seconds: float

    @property
    def label(self) -> str:
        """What to call the sequence."""
        return self.sequences.label(self.index)

    def physical(self, frames: np.ndarray) -> np.ndarray:
        """Return frames of this forecast in the data set's unit."""
        return self.sequences.scaling.inverse(frames, num_axes=len(self.sequences.grid))


def forecast_images(
    forecaster: Forecaster, sequences: Sequences, indices: Iterable[int], steps: int | None = None
) -> Iterator[ImageForecast]:
    """Forecast sequences one after the other.

    Parameters
    ----------
    forecaster
        A model whose channels are the data set's. Where it was trained on other scaled values, they are
        converted by way of the unit.
    sequences
        The data set.
    indices
        Which sequences.
    steps
        Frames to forecast; as many as the sequences have by default.

    Raises
    ------
    UserError
        If model and data set do not fit together, or the sequences are shorter than asked for.
    """
    horizon = sequences.num_frames - sequences.input_length
    steps = horizon if steps is None else steps
    if not 1 <= steps <= horizon:
        raise UserError(f"the sequences of {sequences.name} have {horizon} frames to forecast, not {steps}")
    _check_fits(forecaster, sequences)
    num_axes = len(sequences.grid)
    other = forecaster.scaling
    same = other is None or other == sequences.scaling
    for index in indices:
        if not 0 <= index < len(sequences):
            raise UserError(
                f"{sequences.name} has the sequences 0 to {len(sequences) - 1} for {sequences.split}, "
                f"not {index}"
            )
        frames = torch.where(sequences.mask(index), torch.nan, sequences[index])
        given = frames[: sequences.input_length]
        fed = given.nan_to_num(nan=0.0)
        if not same:
            assert other is not None
            fed = other.forward(sequences.physical(fed), num_axes=num_axes)
        began = time.perf_counter()
        in_half = torch.autocast(
            forecaster.device.type, torch.bfloat16, enabled=forecaster.precision is torch.bfloat16
        )
        with torch.inference_mode(), in_half:
            future = forecaster.network.forecast(fed[None].to(forecaster.device), steps)[0].float().cpu()
        seconds = time.perf_counter() - began
        if not same:
            assert other is not None
            future = sequences.scaling.forward(other.inverse(future, num_axes=num_axes), num_axes=num_axes)
        if not torch.isfinite(future).all():
            raise UserError(f"the forecast of {sequences.name}, {sequences.label(index)}, is not finite")
        yield ImageForecast(
            sequences,
            index,
            given.numpy(),
            frames[sequences.input_length :][:steps].numpy(),
            future.numpy(),
            seconds,
        )


def _check_fits(forecaster: Forecaster, sequences: Sequences) -> None:
    channels, grid = forecaster.channels, forecaster.checkpoint.grid
    if channels != sequences.channels or forecaster.checkpoint.static:
        raise UserError(
            f"{forecaster.name} forecasts {', '.join((*channels, *forecaster.checkpoint.static))}, "
            f"the channels of {sequences.name} are {', '.join(sequences.channels)}: "
            "give a model that was trained on such data"
        )
    one_grid = forecaster.checkpoint.settings.get("peephole") == "voxel"
    if grid is not None and grid != sequences.grid and one_grid:
        raise UserError(
            f"{forecaster.name} has weights for every one of {' x '.join(map(str, grid))} pixels, frames of "
            f"{sequences.name} have {' x '.join(map(str, sequences.grid))}"
        )
    if forecaster.network.num_axes != len(sequences.grid):
        raise UserError(
            f"{forecaster.name} works on {forecaster.network.num_axes} axes of space, frames of "
            f"{sequences.name} have {len(sequences.grid)}"
        )
