"""The gas solver in a model's place: what a simulation makes of the very gas that a model is given."""

from __future__ import annotations

import time
from dataclasses import replace

from astropy import units as u

from mim3d.data.derived import explosion_energy
from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.forecasting import Forecast
from mim3d.machine import choose_device
from mim3d.supernova import FIELD_UNITS, PAPER_FRAME_TIMES_MYR
from mim3d.supernova.resimulation import resimulate
from mim3d.supernova.simulation import GAS_FIELDS, gas_of


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
            See `supernova.resimulation.resimulate`; in the solver's units, as scores take them.

        Raises
        ------
        UserError
            If the solver cannot take the gas, or not evolve it.
        """
        if members != 1:
            raise UserError("a simulation has no --members: it is one forecast")
        start = _in_solver_units(replace(trajectory.window(0, 1), twin=None))
        times = tuple(PAPER_FRAME_TIMES_MYR[1] * (frame + 1) for frame in range(steps))
        energy = explosion_energy(start)
        began = time.perf_counter()
        made = resimulate(start, times, energy, self.device)
        seconds = time.perf_counter() - began
        return Forecast(made, start, seconds, self.name, str(self.device), affected_is_forecast=True)

    def one_step(self, trajectory: Trajectory, steps: int) -> None:
        """Return nothing: a simulation is not started again in every frame."""


def _in_solver_units(gas: Trajectory) -> Trajectory:
    """Return gas in Msun, pc, km/s, K and Myr."""
    gas_of(gas)  # Says what is missing.
    length = unit_factor(gas.length_unit, u.pc, "the length unit")
    return replace(
        gas,
        fields={
            name: gas.fields[name] * unit_factor(gas.units[name], FIELD_UNITS[name], name)
            for name in GAS_FIELDS
        },
        units={name: FIELD_UNITS[name] for name in GAS_FIELDS},
        times=gas.times * unit_factor(gas.time_unit, u.Myr, "the time unit"),
        time_unit=u.Myr,
        length_unit=u.pc,
        **{name: tuple(x * length for x in getattr(gas, name)) for name in ("box_size", "origin", "site")},
    )
