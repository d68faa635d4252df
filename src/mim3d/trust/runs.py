"""Fitting a guard to runs in files."""

from __future__ import annotations

from collections.abc import Sequence

from mim3d.data import well
from mim3d.data.clips import Run
from mim3d.trust.gas import GasDescription, describe_gas
from mim3d.trust.guard import Guard

_DESCRIBED = ("density", "velocity")


def fit_guard(
    training: Sequence[Run], validation: Sequence[Run], channels: Sequence[str], input_length: int = 1
) -> Guard | None:
    """Fit a guard to the gas that runs start from.

    Parameters
    ----------
    training, validation
        The runs that a network is trained on, and those that set the limits.
    channels
        What the network takes and forecasts: features are of these alone, which every input has.
    input_length
        Frames that a forecast starts from; the last is described.

    Returns
    -------
    Guard or None
        None where the runs are not of gas, such as images.
    """
    fields = [
        name
        for name in _DESCRIBED
        if any(channel == name or channel.startswith(f"{name}_") for channel in channels)
    ]
    if "density" not in fields:
        return None
    described = [[_describe(run, input_length, fields) for run in runs] for runs in (training, validation)]
    known = [[each for each in part if each is not None] for part in described]
    return Guard.fit(known[0], known[1], fields) if known[0] else None


def _describe(run: Run, input_length: int, fields: Sequence[str]) -> GasDescription | None:
    return describe_gas(well.read(run.path, run.trajectory, frames=slice(0, input_length)), fields)
