"""Where the gas would be if no star exploded: a few steps of the gas solver on the voxels that are given."""

from __future__ import annotations

import numpy as np
import torch
from astropy import units as u

from mim3d.compilation import uncompiled
from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova.cooling import CoolingCurve
from mim3d.supernova.hydrodynamics import MASS, to_conserved
from mim3d.supernova.simulation import (
    ADIABATIC_INDEX,
    FIELD_UNITS,
    PAPER_FRAME_TIMES_MYR,
    SimulationError,
    evolve,
)

DRIFT_FIELDS = ("density", "temperature", "velocity")
"""Fields that the drift follows from."""

DRIFT_TIME: u.Quantity = PAPER_FRAME_TIMES_MYR[-1] * u.Myr
"""How far ahead the drift is worked out: the last frame of the built-in models."""


def drift(trajectory: Trajectory) -> np.ndarray:
    """Change of log10 density until `DRIFT_TIME` after the last frame, if nothing explodes.

    Turbulence moves gas by about a voxel of 2 pc until then, at a speed that allows steps a hundred times
    longer than a blast does. It is computed on the voxels of the trajectory, so it is as smooth as they are.

    Parameters
    ----------
    trajectory
        Gas on cubic voxels with `DRIFT_FIELDS`; its last frame counts. It cools down to 100 K, as in the
        simulations that the built-in models learnt from.

    Returns
    -------
    numpy.ndarray
        `(X, Y, Z)` float32 [dex].

    Raises
    ------
    UserError
        If the box has not three axes of cubic voxels, a field is missing or of another unit, or the gas
        cannot be evolved.
    """
    if missing := [name for name in DRIFT_FIELDS if name not in trajectory.fields]:
        raise UserError(f"the drift of the gas needs its {missing[0]}; there are: {', '.join(trajectory.fields)}")
    if trajectory.num_axes != 3:
        raise UserError(f"the drift of the gas needs three axes of space, found {trajectory.num_axes}")
    try:
        width = float((trajectory.box_size[0] * trajectory.length_unit).to_value(u.pc)) / trajectory.grid[0]
        factors = {name: trajectory.units[name].to(FIELD_UNITS[name]) for name in DRIFT_FIELDS}
    except u.UnitConversionError as error:
        raise UserError(f"the drift of the gas cannot be worked out in these units: {error}") from error
    sides = np.divide(trajectory.box_size, trajectory.grid)
    if np.ptp(sides) > 1e-6 * sides[0]:
        raise UserError(f"the drift of the gas needs cubic voxels, found sides of {tuple(sides)}")
    density, temperature, velocity = (
        torch.from_numpy(trajectory.fields[name][-1].astype(np.float32) * np.float32(factors[name]))
        for name in DRIFT_FIELDS
    )
    if not (all(x.isfinite().all() for x in (density, temperature, velocity)) and (density > 0).all()):
        raise UserError("the drift of the gas needs a density > 0 and finite values everywhere")
    curve = CoolingCurve()
    theta = curve.theta(temperature).clamp(min=curve.theta_floor)
    primitive = torch.cat((density[None], velocity.movedim(-1, 0), (density * theta)[None]))
    conserved = to_conserved(primitive[None], ADIABATIC_INDEX)
    time = float(DRIFT_TIME.to_value(u.Myr))  # pyright: ignore[reportArgumentType]
    try:
        with torch.inference_mode(), uncompiled():
            (drifted,) = evolve(conserved, (time,), width, curve)
    except SimulationError as error:
        raise UserError(f"the drift of the gas cannot be worked out: {error}") from error
    return torch.log10(drifted[0, MASS] / density).numpy()
