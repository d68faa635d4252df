"""Slices through the explosion's site, and what is drawn on and beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mim3d.fields import Trajectory
from mim3d.metrics import site_voxel
from mim3d.report.style import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Slicer:
    """Cuts the plane through the explosion's site, normal to the last axis, out of frames `(*space)`.

    Parameters
    ----------
    trajectory
        Says where the site and the voxels are.
    """

    trajectory: Trajectory

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges of the slice relative to the site: left, right, bottom, top."""
        t = self.trajectory
        edges = [(low - x, low + side - x) for low, side, x in zip(t.origin, t.box_size, t.site, strict=True)]
        return (*edges[0], *edges[1])

    @property
    def labels(self) -> tuple[str, str]:
        """Labels of the axes."""
        unit = self.trajectory.length_unit.to_string()
        return (f"x  [{unit}]", f"y  [{unit}]") if unit else ("x", "y")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Return the slice `(rows, columns)`: y upwards, x to the right."""
        t = self.trajectory
        if t.num_axes == 3:
            frame = frame[..., site_voxel(t.site, t.origin, t.box_size, t.grid)[2]]
        return np.asarray(frame).T


def outline(axes: Axes, slicer: Slicer, mask: np.ndarray, color: str, width: float = 1.1) -> Any:
    """Draw a line around the voxels of a mask, along their edges."""
    from matplotlib.collections import LineCollection

    cut = np.pad(slicer(mask).astype(bool), 1)
    left, right, bottom, top = slicer.extent
    rows, columns = cut.shape[0] - 2, cut.shape[1] - 2
    x = left + (right - left) * np.arange(columns + 1) / columns
    y = bottom + (top - bottom) * np.arange(rows + 1) / rows
    segments = [[(x[j], y[i]), (x[j], y[i + 1])] for i, j in np.argwhere(cut[1:-1, 1:] != cut[1:-1, :-1])]
    segments += [[(x[j], y[i]), (x[j + 1], y[i])] for i, j in np.argwhere(cut[1:, 1:-1] != cut[:-1, 1:-1])]
    return axes.add_collection(LineCollection(segments, colors=color, linewidths=width, capstyle="round"))


def set_ticks(axes: Axes, slicer: Slicer) -> None:
    """Put few ticks on round numbers, away from the corners where those of two panels would meet."""
    left, right, bottom, top = slicer.extent
    for low, high, place in ((left, right, axes.set_xticks), (bottom, top, axes.set_yticks)):
        span = high - low
        power = 10 ** np.floor(np.log10(span / 3))
        step = max(c * power for c in (1, 2, 2.5, 5) if c * power <= span / 3)
        ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        inside = (ticks > low + 0.05 * span) & (ticks < high - 0.05 * span)
        place(ticks[inside])


def label_bar(bar: Any, label: str, shown: Shown, difference: bool) -> None:
    """Label a colour bar with plain numbers."""
    bar.set_label(label, labelpad=1 if bar.orientation == "horizontal" else 5)
    bar.outline.set_visible(False)
    if difference:
        limit = shown.difference_limit
        ticks = np.array([-1, -0.5, 0, 0.5, 1]) * limit
        bar.set_ticks(ticks, labels=[f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks])
    elif shown.logarithmic:
        ticks = [10.0**power for power in range(_ceil_log(shown.low), int(np.log10(shown.high)) + 1)]
        if shown.high / ticks[-1] > 1.3:
            ticks.append(shown.high)
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    if bar.orientation == "horizontal":
        # Kept within the bar's length, so that two bars can stand side by side.
        labels = bar.ax.get_xticklabels()
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right")


def _ceil_log(value: float) -> int:
    return int(np.ceil(np.log10(value) - 1e-9))
