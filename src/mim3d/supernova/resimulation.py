"""What the gas solver makes of gas as it is given: on its own voxels, without what is finer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.supernova.blast import explode
from mim3d.supernova.cooling import CoolingCurve
from mim3d.supernova.hydrodynamics import MASS
from mim3d.supernova.shell import affected_mask
from mim3d.supernova.simulation import (
    FIELD_UNITS,
    GAS_FIELDS,
    CloudSettings,
    SimulationError,
    evolve,
    fields_of,
    gas_of,
)
from mim3d.supernova.units import MSUN_KMS2_PER_ERG

_TWIN_TIMES = 4
"""Into how many parts the time is divided to follow the gas without the explosion."""


def resimulate(
    trajectory: Trajectory,
    times_myr: Sequence[float],
    explosion_energy_erg: float,
    device: torch.device | str = "cpu",
) -> Trajectory:
    """Simulate the explosion from the last frame of a trajectory, on the voxels that it has.

    The gas without the explosion moves a hundred times more slowly than a blast: it is simulated in a few
    steps, and the logarithm of its density taken to change evenly between them.

    Parameters
    ----------
    trajectory
        Gas that `gas_of` takes, on as many voxels along every axis, with its site. It cools down to 100 K, as
        in the simulations that the built-in models learnt from.
    times_myr
        Increasing times of the frames to make, after the last frame of the trajectory [Myr].
    explosion_energy_erg
        [erg].
    device
        Where to compute.

    Returns
    -------
    Trajectory
        A frame a time: `GAS_FIELDS` in the trajectory's units, and `affected`, 1 where the density differs
        from that without the explosion by more than 10 %, else 0.

    Raises
    ------
    UserError
        If the solver cannot take the gas, or not evolve it.
    """
    if len(set(trajectory.grid)) > 1:
        raise UserError(f"the gas solver needs as many voxels along every axis, found {trajectory.grid}")
    gas, width = gas_of(trajectory)
    gas = gas.to(device)
    length = unit_factor(trajectory.length_unit, u.pc, "the length unit")
    site = [(x - low) * length for x, low in zip(trajectory.site, trajectory.origin, strict=True)]
    energy = explosion_energy_erg * MSUN_KMS2_PER_ERG
    exploded = explode(gas[0], width, site, energy, CloudSettings.heated_mass)[None]
    curve = CoolingCurve().to(device)
    try:
        with torch.inference_mode():
            after = torch.cat(list(evolve(exploded, times_myr, width, curve)))
            few = np.array_split(np.asarray(times_myr), _TWIN_TIMES)
            few_times = [0.0, *(float(part[-1]) for part in few if len(part))]
            twins = torch.cat([gas, *evolve(gas, few_times[1:], width, curve)])
    except SimulationError as error:
        raise UserError(
            f"the gas cannot be simulated on its {trajectory.grid[0]}^3 voxels: {error}"
        ) from error
    fields = fields_of(after, GAS_FIELDS, curve)
    twin_density = _between(twins[:, MASS].cpu().numpy(), few_times, times_myr)
    affected = affected_mask(fields["density"], twin_density).astype(np.float32)
    for name in GAS_FIELDS:
        fields[name] *= np.float32(unit_factor(FIELD_UNITS[name], trajectory.units[name], name))
    to_unit = unit_factor(u.Myr, trajectory.time_unit, "the time unit")
    return replace(
        trajectory,
        fields={**fields, "affected": affected},
        units={**{name: trajectory.units[name] for name in GAS_FIELDS}, "affected": u.dimensionless_unscaled},
        times=trajectory.times[-1] + np.asarray(times_myr) * to_unit,
        twin=None,
    )


def _between(density: np.ndarray, known: Sequence[float], times: Sequence[float]) -> np.ndarray:
    """Density `(T, *space)` at times between known ones."""
    logarithm = np.log(density)
    after = np.searchsorted(known, times).clip(1, len(known) - 1)
    shares = [(time - known[k - 1]) / (known[k] - known[k - 1]) for time, k in zip(times, after, strict=True)]
    return np.exp(
        np.stack(
            [
                (1 - share) * logarithm[k - 1] + share * logarithm[k]
                for share, k in zip(shares, after, strict=True)
            ]
        )
    )
