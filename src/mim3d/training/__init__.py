"""Training: recipes, the Lightning module and data module, exact resume.

Names are imported when first asked for, so that reading a recipe does not load PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mim3d.training.data_module import ForecastDataModule as ForecastDataModule
    from mim3d.training.losses import ForecastLoss as ForecastLoss
    from mim3d.training.module import ForecastModule as ForecastModule
    from mim3d.training.plan import Plan as Plan
    from mim3d.training.plan import plan_training as plan_training
    from mim3d.training.recipe import Recipe as Recipe
    from mim3d.training.recipe import load_recipe as load_recipe
    from mim3d.training.recipe import packaged_recipes as packaged_recipes
    from mim3d.training.recipe import recipe_parser as recipe_parser
    from mim3d.training.run import train as train

_HOMES = {
    "ForecastDataModule": "data_module",
    "ForecastLoss": "losses",
    "ForecastModule": "module",
    "Plan": "plan",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "packaged_recipes": "recipe",
    "plan_training": "plan",
    "recipe_parser": "recipe",
    "train": "run",
}

__all__ = [
    "ForecastDataModule",
    "ForecastLoss",
    "ForecastModule",
    "Plan",
    "Recipe",
    "load_recipe",
    "packaged_recipes",
    "plan_training",
    "recipe_parser",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
