"""The physics of a supernova in a cloud: turbulence, gas, cooling, the blast, and what to measure on it."""

from mim3d.supernova.cooling import CoolingCurve as CoolingCurve
from mim3d.supernova.simulation import (
    FIELD_UNITS as FIELD_UNITS,
)
from mim3d.supernova.simulation import (
    PAPER_FRAME_TIMES_MYR as PAPER_FRAME_TIMES_MYR,
)
from mim3d.supernova.simulation import (
    CloudSettings as CloudSettings,
)
from mim3d.supernova.simulation import (
    SimulationError as SimulationError,
)
from mim3d.supernova.simulation import (
    simulate as simulate,
)

__all__ = [
    "FIELD_UNITS",
    "PAPER_FRAME_TIMES_MYR",
    "CloudSettings",
    "CoolingCurve",
    "SimulationError",
    "simulate",
]
