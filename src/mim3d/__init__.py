"""Forecast how gas, and any other field, evolves, with Memory-In-Memory networks in 2-D and 3-D."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mim3d.errors import UserError as UserError
    from mim3d.fields import Trajectory as Trajectory
    from mim3d.forecasting import Forecast as Forecast
    from mim3d.forecasting import Forecaster as Forecaster
    from mim3d.forecasting import load as load

__version__ = "0.1.0"

_HOMES = {
    "Forecast": "mim3d.forecasting",
    "Forecaster": "mim3d.forecasting",
    "Trajectory": "mim3d.fields",
    "UserError": "mim3d.errors",
    "load": "mim3d.forecasting",
}

__all__ = ["Forecast", "Forecaster", "Trajectory", "UserError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Names are imported when first asked for, so that `mim3d --help` does not wait for PyTorch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
