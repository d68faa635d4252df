"""The gas solver in a model's place: what a simulation makes of the very gas that a model is given."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from astropy import units as u

from mim3d.data import affected
from mim3d.data.derived import explosion_energy
from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.forecasting import AFFECTED, Forecast
from mim3d.machine import choose_device
from mim3d.supernova import FIELD_UNITS, PAPER_FRAME_TIMES_MYR, CloudSettings, CoolingCurve, SimulationError
from mim3d.supernova.blast import explode
from mim3d.supernova.simulation import evolve, fields_of, gas_of
from mim3d.supernova.units import MSUN_KMS2_PER_ERG


class Resimulation:
    """Simulates from the first frame of a trajectory, on its voxels, and gives what a `Forecaster` gives.

    It knows the equations, but not the finer gas within the voxels, which the simulation that it is scored
    against had. That makes it the yardstick for a network that is given the same.

    Parameters
    ----------
    device
        Where to compute.

    Raises
    ------
    UserError
        If there is no such device.
    """

    name = "simulation"
    input_length = 1

    def __init__(self, device: str | None = "auto") -> None:
        self.device = choose_device(device)

    def forecast(self, trajectory: Trajectory, steps: int = 19, members: int = 1) -> Forecast:
        """Simulate the frames after the first one, 1/150 Myr apart.

        Parameters
        ----------
        trajectory
            Gas that `simulation.gas_of` takes, with its site and, where it says one, the explosion's energy.
        steps
            Frames.
        members
            1: a simulation has no spread.

        Returns
        -------
        Forecast
            With `affected` from a second simulation without the explosion; its time does not count.

        Raises
        ------
        UserError
            If the solver cannot take the gas, or not evolve it.
        """
        if members != 1:
            raise UserError("a simulation has no --members: it is one forecast")
        start = replace(trajectory.window(0, 1), twin=None)
        if len(set(start.grid)) > 1:
            raise UserError(f"a simulation needs as many voxels along every axis, found {start.grid}")
        gas, width = gas_of(start)
        gas = gas.to(self.device)
        length = unit_factor(start.length_unit, u.pc)
        site = [(x - low) * length for x, low in zip(start.site, start.origin, strict=True)]
        energy = explosion_energy(start) * MSUN_KMS2_PER_ERG
        exploded = explode(gas[0], width, site, energy, CloudSettings.heated_mass)[None]
        times = tuple(PAPER_FRAME_TIMES_MYR[1] * (frame + 1) for frame in range(steps))
        curve = CoolingCurve().to(self.device)
        try:
            # Compiles what is not compiled yet.
            list(evolve(exploded, (1e-6,), width, curve))
            began = time.perf_counter()
            after = torch.cat(list(evolve(exploded, times, width, curve)))
            seconds = time.perf_counter() - began
            twin = torch.cat(list(evolve(gas, times, width, curve)))
        except SimulationError as error:
            raise UserError(str(error)) from error
        names = [name for name in FIELD_UNITS if name in start.fields]
        units = {name: FIELD_UNITS[name] for name in names}
        fields = fields_of(after, names, curve)
        fields[AFFECTED] = affected(fields["density"], fields_of(twin, ("density",), curve)["density"])
        common = {
            "box_size": tuple(side * length for side in start.box_size),
            "origin": tuple(x * length for x in start.origin),
            "site": tuple(x * length for x in start.site),
            "parameters": start.parameters,
        }
        now = float(start.times[-1]) * unit_factor(start.time_unit, u.Myr)
        before = fields_of(gas, names, curve)
        initial = Trajectory(fields=before, units=units, times=np.array([now]), **common)
        made = Trajectory(
            fields=fields,
            units={**units, AFFECTED: u.dimensionless_unscaled},
            times=now + np.array(times),
            **common,
        )
        return Forecast(made, initial, seconds, self.name, str(self.device), affected_is_forecast=True)

    def one_step(self, trajectory: Trajectory, steps: int) -> None:
        """Return nothing: a simulation is not started again in every frame."""
