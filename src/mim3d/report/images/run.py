"""A data set in, a folder with forecasts of its sequences and their pictures out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mim3d
from mim3d.data.files import replacing
from mim3d.data.sequences import Sequences
from mim3d.forecasting import Forecaster
from mim3d.report.folder import check_result_folder, result_folder
from mim3d.report.images.figures import animate_images, draw_strip
from mim3d.report.images.forecast import ImageForecast, forecast_images
from mim3d.report.run import RECORD, numbers


def forecast_dataset(
    forecaster: Forecaster,
    sequences: Sequences,
    output: str | Path,
    *,
    first: int = 0,
    count: int = 1,
    steps: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[ImageForecast]:
    """Forecast sequences of a data set and write a folder with arrays and pictures.

    The folder holds, for every sequence, `sequence_N.gif` and `sequence_N.png`; `forecast.npz` with the
    arrays `given`, `truth` and `forecast`, each `(sequences, T, C, *space)` in the data set's unit (NaN where
    nothing was measured), and `index`; and `forecast.json`. It appears when all of them are written.

    Parameters
    ----------
    forecaster
        The model.
    sequences
        One split of a data set.
    output
        The folder.
    first, count
        Which sequences.
    steps
        Frames to forecast; as many as the sequences have by default.
    say
        Called with a line for every sequence.

    Raises
    ------
    UserError
        If model and data set do not fit together, or there is no such sequence; then nothing is written.
    """
    check_result_folder(output, RECORD)
    made = list(forecast_images(forecaster, sequences, range(first, first + count), steps))
    with result_folder(output, RECORD) as folder:
        for one in made:
            errors, kept = (
                np.nansum(np.square(frames - one.truth), axis=tuple(range(1, one.truth.ndim)))
                for frames in (one.forecast, np.broadcast_to(one.given[-1], one.truth.shape))
            )
            say(
                f"{one.label}: squared error summed over a frame {errors.mean():.4g}, "
                f"of persistence {kept.mean():.4g}"
            )
            draw_strip(one, folder / f"sequence_{one.index}.png")
            animate_images(one, folder / f"sequence_{one.index}.gif")
        with replacing(folder / "forecast.npz") as temporary, temporary.open("wb") as file:
            arrays: dict[str, Any] = {
                name: np.stack([one.physical(getattr(one, name)) for one in made]).astype(np.float32)
                for name in ("given", "truth", "forecast")
            }
            np.savez_compressed(file, index=np.array([one.index for one in made]), **arrays)
        horizon = len(made[0].forecast)
        record: dict[str, Any] = {
            "written_by": f"mim3d {mim3d.__version__}",
            "files": sorted([path.name for path in folder.iterdir()] + [RECORD]),
            "model": forecaster.name,
            "device": str(forecaster.device),
            "dataset": sequences.name,
            "split": sequences.split,
            "channels": list(sequences.channels),
            "unit": sequences.unit,
            "times": numbers(sequences.time_step * np.arange(1, horizon + 1)),
            "time_unit": sequences.time_unit,
            "sequences": [{"index": one.index, "label": one.label, "seconds": one.seconds} for one in made],
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return made
