"""A file in, a folder with the forecast, its pictures and its scores out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u

import mim3d
from mim3d.data import well
from mim3d.data.files import replacing
from mim3d.errors import UserError
from mim3d.forecasting import Forecast, Forecaster, best_model, example_path, load
from mim3d.inputs import fields_in, read_input
from mim3d.machine import MemoryFormat, Precision, describe_machine
from mim3d.report.animation import animate_forecast
from mim3d.report.comparison import Comparison, compare
from mim3d.report.folder import check_result_folder, result_folder
from mim3d.report.summary import draw_summary
from mim3d.supernova.deposit import Particles
from mim3d.trust.spread import LOGARITHMIC

RECORD = "forecast.json"
"""Settings, scores and the names of the files of a forecast; marks the folder as one."""


def forecast_file(
    path: str | Path | None = None,
    output: str | Path = "forecast",
    *,
    model: str | Path | Forecaster = "auto",
    steps: int = 19,
    device: str = "auto",
    precision: Precision = "auto",
    memory_format: MemoryFormat = "auto",
    index: int = 0,
    center: Sequence[float] | None = None,
    box: float | None = None,
    energy: float | None = None,
    units: Mapping[str, str] | None = None,
    members: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Forecast from a file and write a folder with the results.

    The folder holds `forecast.h5` (The Well's layout), `forecast.gif`, `summary.png`, `forecast.json` and,
    for particles, `affected_particles.h5`. It appears when all of them are written.

    Parameters
    ----------
    path
        The Well's HDF5, npz samples or a snapshot of particles; the bundled example where not given.
    output
        The folder.
    model
        Name or path of the model, or one that is loaded already; `"auto"` takes the bundled one that makes
        most of what the file holds.
    steps
        Frames to forecast.
    device, precision, memory_format
        Where to run the network, and how; see `mim3d.load`.
    index, center, box, energy, units
        See `mim3d.inputs.read_input`.
    members
        See `Forecaster.forecast`; of more than one, the spread is written too.
    say
        Called with a line whenever there is something to tell.

    Returns
    -------
    Comparison
        The forecast, with scores where the file goes on beyond the start.

    Raises
    ------
    UserError
        If anything that was given cannot be used; then nothing is written.
    """
    source = example_path() if path is None else Path(path)
    if model == "auto":
        model = best_model(fields_in(source))
    forecaster = model if isinstance(model, Forecaster) else load(model, device, precision, memory_format)
    where = describe_machine(forecaster.device, forecaster.precision, forecaster.channels_last)
    say(f"model {forecaster.name} on {where}")
    say(f"gas from {'the bundled example cloud' if path is None else source}")
    gas = read_input(
        source, forecaster.checkpoint, index=index, center=center, box=box, energy=energy, units=units
    )
    for name, value in forecaster.assumed(gas.trajectory).items():
        say(f"nothing says the {name}: {value:g} everywhere is assumed")
    check_result_folder(output, RECORD)
    try:
        forecast = forecaster.forecast(gas.trajectory, steps, members)
        comparison = compare(forecast, gas.trajectory)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    with result_folder(output, RECORD) as folder:
        write_forecast(forecast, folder / "forecast.h5")
        if forecast.trajectory.num_axes > 1:
            say("drawing")
            draw_summary(comparison, folder / "summary.png")
            animate_forecast(comparison, folder / "forecast.gif")
        if gas.particles is not None:
            count = write_affected_particles(forecast, gas.particles, folder / "affected_particles.h5")
            say(f"{count} of {len(gas.particles)} particles are affected within the {len(forecast)} frames")
        files = sorted([path.name for path in folder.iterdir()] + [RECORD])
        _write_record(comparison, source, files, folder / RECORD)
    return comparison


def write_forecast(forecast: Forecast, path: str | Path) -> None:
    """Write a forecast in The Well's layout.

    The spread of a channel is the field `<channel>_spread`. The root has attributes `guard` (`inside`,
    `outside` or `none`), `guard_reasons` and `guard_score`, up to 1 inside the training range.

    Parameters
    ----------
    forecast
        The forecast.
    path
        The HDF5 file.
    """
    import h5py

    trajectory = forecast.trajectory
    fields, units = dict(trajectory.fields), dict(trajectory.units)
    for name, values in forecast.spread.items():
        fields[f"{name}_spread"] = values
        units[f"{name}_spread"] = spread_unit(forecast, name)
    with replacing(path) as temporary:
        well.write(temporary, replace(trajectory, fields=fields, units=units), dataset_name="mim3d_forecast")
        with h5py.File(temporary, "r+") as file:
            for name, value in _describe_verdict(forecast).items():
                file.attrs[name] = value


def _describe_verdict(forecast: Forecast) -> dict[str, Any]:
    verdict = forecast.verdict
    if verdict is None:
        return {"guard": "none"}
    return {
        "guard": "inside" if verdict.is_inside else "outside",
        "guard_reasons": "; ".join(verdict.reasons),
        "guard_score": verdict.score,
    }


def spread_unit(forecast: Forecast, channel: str) -> u.UnitBase:
    """Return the unit of a channel's spread: dex where it is the logarithm's."""
    if channel in LOGARITHMIC:
        return u.dex
    units = forecast.trajectory.units
    return units[channel] if channel in units else units[channel.rpartition("_")[0]]


def write_affected_particles(forecast: Forecast, particles: Particles, path: str | Path) -> int:
    """Write the ids of the particles that lie where the explosion changes the gas.

    Parameters
    ----------
    forecast
        The forecast.
    particles
        The gas that it started from.
    path
        HDF5 file with the dataset `ids`.

    Returns
    -------
    int
        How many particles are affected.
    """
    import h5py

    ids = np.sort(forecast.affected_particles(particles))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("ids", data=ids)
        file.attrs["description"] = (
            "gas particles whose surroundings the explosion changes within the forecast"
        )
        file.attrs["model"] = forecast.model
        file.attrs["affected_threshold"] = forecast.affected_threshold
        file.attrs["last_time"] = float(forecast.trajectory.times[-1])
        file.attrs["time_unit"] = forecast.trajectory.time_unit.to_string()
    return len(ids)


def _write_record(comparison: Comparison, source: Path, files: list[str], path: Path) -> None:
    forecast = comparison.forecast
    record: dict[str, Any] = {
        "written_by": f"mim3d {mim3d.__version__}",
        "files": files,
        "source": str(source),
        "model": forecast.model,
        "device": forecast.device,
        "seconds": forecast.seconds,
        "simulation_seconds": comparison.simulation_seconds,
        "simulated_time_covered": comparison.covered,
        "time_unit": forecast.trajectory.time_unit.to_string(),
        "times": numbers(forecast.trajectory.times),
        "affected": "forecast by the network"
        if forecast.affected_is_forecast
        else "density differs from the start's by more than 25 %",
        "affected_threshold": forecast.affected_threshold,
        "members": forecast.members,
        "is_guide_alone": forecast.is_guide_alone,
        **_describe_verdict(forecast),
    }
    if forecast.spread:
        record["spread_is_calibrated"] = forecast.spread_is_calibrated
        record["mean_spread"] = {
            name: numbers(values.reshape(len(values), -1).mean(axis=1))
            for name, values in forecast.spread.items()
        }
    for name, shell in (("forecast", comparison.forecast_shell), ("simulation", comparison.simulation_shell)):
        if shell is not None:
            record[f"{name}_shell_radius_pc"] = numbers(shell.radius[1:])
            record[f"{name}_affected_volume_pc3"] = numbers(shell.affected_volume[1:])
    if comparison.scores is not None:
        record["scores"] = {name: numbers(values) for name, values in comparison.scores.items()}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def numbers(values: np.ndarray) -> list[float | None]:
    """Return plain numbers for JSON, which has no NaN."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in np.asarray(values)]
