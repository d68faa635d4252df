"""When to believe a forecast: whether the gas is like the training's, and how far off it may be."""

from mim3d.trust.gas import GasDescription as GasDescription
from mim3d.trust.gas import describe_gas as describe_gas
from mim3d.trust.guard import Guard as Guard
from mim3d.trust.guard import Verdict as Verdict
from mim3d.trust.runs import fit_guard as fit_guard
from mim3d.trust.spread import SpreadFit as SpreadFit
from mim3d.trust.spread import SpreadScale as SpreadScale

__all__ = ["GasDescription", "Guard", "SpreadFit", "SpreadScale", "Verdict", "describe_gas", "fit_guard"]
