"""Colours, scales and labels that all figures share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory, unit_factor
from mim3d.metrics import number_density

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

SIMULATION_COLOR = "#1b7f8c"
FORECAST_COLOR = "#e4572e"
REFERENCE_COLOR = "#8a8f98"

SIMULATION_EDGE = "#ffffff"
FORECAST_EDGE = "#33d6ff"
"""Outlines drawn on the density's colours, which hold neither white nor blue."""

_NUMBER_DENSITIES = (1.0, 300.0)
"""Ends of the colour bar for gas like the papers' [cm^-3]."""

_LIGHT = {"figure": "#ffffff", "panel": "#ffffff", "ink": "#1c2026", "muted": "#667080", "grid": "#e3e6ea"}
_DARK = {"figure": "#0c0e13", "panel": "#0c0e13", "ink": "#e9edf2", "muted": "#98a2b0", "grid": "#2a2f38"}


@dataclass(frozen=True)
class Theme:
    """Colours of the paper and of what is printed on it."""

    figure: str
    panel: str
    ink: str
    muted: str
    grid: str
    difference_map: Colormap


@contextmanager
def theme(dark: bool) -> Iterator[Theme]:
    """Draw with a theme inside the block, and leave matplotlib as it was."""
    import matplotlib

    colors = _DARK if dark else _LIGHT
    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "figure.facecolor": colors["figure"],
        "savefig.facecolor": colors["figure"],
        "axes.facecolor": colors["panel"],
        "axes.edgecolor": colors["muted"],
        "axes.labelcolor": colors["ink"],
        "axes.titlecolor": colors["ink"],
        "text.color": colors["ink"],
        "xtick.color": colors["muted"],
        "ytick.color": colors["muted"],
        "xtick.labelcolor": colors["ink"],
        "ytick.labelcolor": colors["ink"],
        "grid.color": colors["grid"],
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "mathtext.default": "regular",
    }
    with matplotlib.rc_context(settings):  # pyright: ignore[reportArgumentType]
        yield Theme(**colors, difference_map=_difference_map(dark))


def _difference_map(dark: bool) -> Colormap:
    """Blue where the forecast is thinner than the simulation, red where it is denser."""
    from matplotlib.colors import LinearSegmentedColormap

    if not dark:
        colors = ["#0b3c6f", "#3f7fbf", "#a9cbe6", "#ffffff", "#f3bda3", "#d5603f", "#7c1225"]
    else:
        colors = ["#9fdcff", "#3b93d6", "#1c466e", "#14171d", "#74301f", "#e0683c", "#ffc999"]
    return LinearSegmentedColormap.from_list("difference", colors)


def shown_time_unit(unit: u.UnitBase) -> tuple[float, str]:
    """Choose the unit to show times in: Myr where the data count in years or more, else the data's own.

    Returns
    -------
    tuple of float and str
        By what to multiply times in `unit`, and the name of the unit shown; empty for plain numbers.
    """
    if unit.is_equivalent(u.yr) and unit_factor(unit, u.yr) > 0.999:
        return unit_factor(unit, u.Myr), "Myr"
    return 1.0, unit.to_string()


def time_label(since: float, unit: u.UnitBase) -> str:
    """Write a time since the start, given in `unit`, with the unit that it is shown in."""
    factor, name = shown_time_unit(unit)
    return f"{factor * since:.3f} Myr" if name == "Myr" else f"{since:g} {name}".strip()


@dataclass(frozen=True)
class Shown:
    """The quantity that the slices show.

    Parameters
    ----------
    field
        Name of the field.
    label, difference_label
        With units.
    low, high
        Ends of the colour bar, in what `values` gives.
    logarithmic
        Whether colours follow the logarithm.
    """

    field: str
    label: str
    difference_label: str
    low: float
    high: float
    logarithmic: bool

    @property
    def is_number_density(self) -> bool:
        """Whether values are number densities [cm^-3]."""
        return self.logarithmic

    def values(self, frame: np.ndarray) -> np.ndarray:
        """Turn one frame of the field into what is shown."""
        return number_density(frame) if self.is_number_density else np.asarray(frame)

    def difference(self, frame: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Difference of two frames: in dex between the ends of the colour bar, or plain."""
        values, others = self.values(frame), self.values(reference)
        if self.logarithmic:
            return np.log10(np.clip(values, self.low, self.high) / np.clip(others, self.low, self.high))
        return values - others

    @property
    def difference_limit(self) -> float:
        """Where the colour bar of differences ends."""
        return 1.0 if self.logarithmic else self.high - self.low

    def norm(self) -> Normalize:
        """One colour scale for all frames and panels."""
        from matplotlib.colors import LogNorm, Normalize

        return (LogNorm if self.logarithmic else Normalize)(self.low, self.high, clip=True)


def choose_shown(initial: Trajectory, forecast: Trajectory) -> Shown:
    """Show the density where there is one, else the first scalar field.

    Raises
    ------
    UserError
        If there is nothing that a picture can show.
    """
    unit = forecast.units.get("density")
    if unit is not None and unit.is_equivalent(u.Msun / u.pc**3):
        median = float(np.median(number_density(initial.fields["density"][-1])))
        low, high = _NUMBER_DENSITIES
        # Fixed around the papers' cloud, so that pictures of different runs can be compared.
        if not 10 < median < 150:
            low, high = (_round_number(median / 45), _round_number(median * 6))
        return Shown("density", r"$n_{\rm H}$  [cm$^{-3}$]", r"$\log_{10}$ ratio  [dex]", low, high, True)
    for name in forecast.fields:
        if not forecast.is_vector(name):
            values = np.asarray(initial.fields.get(name, forecast.fields[name]))
            suffix = f"  [{forecast.units[name].to_string()}]" if forecast.units[name].to_string() else ""
            low, high = float(np.min(values)), float(np.max(values))
            return Shown(
                name, name + suffix, "difference" + suffix, low, high if high > low else low + 1, False
            )
    raise UserError("there is no scalar field to show")


def _round_number(value: float) -> float:
    """Round to 1, 2 or 5 times a power of ten."""
    power = 10 ** np.floor(np.log10(value))
    return float(min((1, 2, 5, 10), key=lambda step: abs(np.log(step * power / value))) * power)
