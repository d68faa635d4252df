"""Where the gas would be if no star exploded: a few steps of the gas solver on the voxels that are given."""

from __future__ import annotations

import numpy as np
import torch
from astropy import units as u

from mim3d.compilation import few_threads
from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova.cooling import CoolingCurve
from mim3d.supernova.hydrodynamics import MASS
from mim3d.supernova.simulation import PAPER_FRAME_TIMES_MYR, SimulationError, evolve, gas_of

_DRIFT_TIME_MYR = PAPER_FRAME_TIMES_MYR[-1]
DRIFT_TIME: u.Quantity = _DRIFT_TIME_MYR * u.Myr
"""How far ahead the drift is worked out: the last frame of the built-in models."""


def drift(trajectory: Trajectory) -> np.ndarray:
    """Change of log10 density until `DRIFT_TIME` after the last frame, if nothing explodes.

    Turbulence moves gas by about a voxel of 2 pc until then, at a speed that allows steps a hundred times
    longer than a blast does. It is computed on the voxels of the trajectory, so it is as smooth as they are.

    Parameters
    ----------
    trajectory
        Gas that `simulation.gas_of` takes; its last frame counts. It cools down to 100 K, as in the
        simulations that the built-in models learnt from.

    Returns
    -------
    numpy.ndarray
        `(X, Y, Z)` float32 [dex].

    Raises
    ------
    UserError
        If the solver cannot take the gas, or not evolve it.
    """
    before, width = gas_of(trajectory)
    try:
        with torch.inference_mode(), few_threads(before[0, MASS].numel()):
            (after,) = evolve(before, (_DRIFT_TIME_MYR,), width, CoolingCurve())
    except SimulationError as error:
        raise UserError(f"the drift of the gas cannot be worked out: {error}") from error
    return torch.log10(after[0, MASS] / before[0, MASS]).numpy()
