"""The forecast as a moving picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mim3d.data.files import replacing
from mim3d.report.comparison import Comparison
from mim3d.report.slices import Slicer, label_bar, outline, set_ticks
from mim3d.report.style import FORECAST_EDGE, SIMULATION_EDGE, Shown, Theme, choose_shown, theme, time_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 100
_FRAME_MILLISECONDS = 140
_PAUSE_MILLISECONDS = 1400


def animate_forecast(comparison: Comparison, path: str | Path) -> None:
    """Write a GIF that loops: simulation, forecast and their difference in the plane through the site.

    Without a simulation: the start, the forecast and the change since the start.

    Parameters
    ----------
    comparison
        The forecast, and the simulation where there is one.
    path
        File to write.
    """
    from PIL import Image

    images = [Image.fromarray(pixels) for pixels in render_frames(comparison)]
    # One palette for all frames: no flicker, and what does not change from frame to frame costs nothing.
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [_FRAME_MILLISECONDS] * len(frames)
    durations[0], durations[-1] = 3 * _FRAME_MILLISECONDS, _PAUSE_MILLISECONDS
    with replacing(path) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            optimize=True,
        )


def render_frames(comparison: Comparison) -> list[np.ndarray]:
    """Draw the start and every forecast frame.

    Returns
    -------
    list of numpy.ndarray
        `(height, width, 3)` uint8 each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with theme(dark=True) as colors:
        scene = _Scene(comparison, colors)
        canvas = FigureCanvasAgg(scene.figure)
        # What stays is drawn once, without the artists that are `animated`.
        canvas.draw()
        around = canvas.copy_from_bbox(scene.figure.bbox)
        frames = []
        for frame in range(-1, len(comparison.forecast)):
            scene.show(frame)
            canvas.restore_region(around)
            scene.draw()
            frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return frames


def _palette() -> list[int]:
    """Colours of a GIF: both colour maps, evenly, and what text and lines need; 256 in all."""
    from matplotlib import colormaps

    with theme(dark=True) as colors:
        paper, ink, muted = (_rgb(color) for color in (colors.figure, colors.ink, colors.muted))
        rows = [
            colormaps["inferno"](np.linspace(0, 1, 140))[:, :3],
            colors.difference_map(np.linspace(0, 1, 81))[:, :3],
            paper + (ink - paper) * np.linspace(0, 1, 24)[:, None],
            paper + (muted - paper) * np.linspace(0.1, 1, 8)[:, None],
            [_rgb(SIMULATION_EDGE), _rgb(FORECAST_EDGE), _rgb(FORECAST_EDGE) * 0.75],
        ]
    return (np.concatenate(rows) * 255).round().astype(int).ravel().tolist()


def _rgb(color: str) -> np.ndarray:
    from matplotlib.colors import to_rgb

    return np.array(to_rgb(color))


class _Scene:
    """Three panels whose pictures change, and everything around them that does not."""

    def __init__(self, comparison: Comparison, colors: Theme) -> None:
        from matplotlib.figure import Figure

        forecast = comparison.forecast
        self.comparison = comparison
        self.colors = colors
        self.slicer = Slicer(forecast.trajectory)
        self.shown: Shown = choose_shown(forecast.initial, forecast.trajectory)
        self.start = np.asarray(forecast.initial.fields[self.shown.field][-1])
        self.figure: Figure = Figure(figsize=(9.6, 4.56), dpi=_DPI)
        titles = (
            ("Simulation", "Forecast", "Forecast / simulation")
            if comparison.simulation is not None
            else ("Start", "Forecast", "Forecast / start")
        )
        if not self.shown.logarithmic:
            titles = (titles[0], titles[1], titles[2].replace(" / ", " − "))
        self.axes: list[Axes] = []
        self.pictures: list[Any] = []
        self.outlines: list[Any] = []
        for k, title in enumerate(titles):
            axes = self.figure.add_axes((0.062 + 0.315 * k, 0.21, 0.295, 0.62105))
            axes.set_title(title, pad=6, fontsize=11)
            set_ticks(axes, self.slicer)
            axes.set_xlabel(self.slicer.labels[0], labelpad=1)
            if k == 0:
                axes.set_ylabel(self.slicer.labels[1], labelpad=-2)
            else:
                axes.tick_params(labelleft=False)
            self.axes.append(axes)
            self.pictures.append(self._picture(axes, difference=k == 2))
        self._color_bars()
        self.clock = self.figure.text(
            0.987, 0.93, "", ha="right", fontsize=14, family="DejaVu Sans Mono", animated=True
        )
        self.figure.text(0.062, 0.93, f"mim3d · {forecast.model}", fontsize=14, fontweight="bold")
        self._legend()

    def _picture(self, axes: Axes, difference: bool) -> Any:
        shape = self.slicer(self.start).shape
        limit = self.shown.difference_limit
        scale = (
            {"cmap": self.colors.difference_map, "vmin": -limit, "vmax": limit}
            if difference
            else {"cmap": "inferno", "norm": self.shown.norm()}
        )
        return axes.imshow(
            np.ones(shape),
            origin="lower",
            extent=self.slicer.extent,
            interpolation="nearest",
            animated=True,
            **scale,
        )

    def _color_bars(self) -> None:
        for left, width, picture, label in (
            (0.062, 0.61, self.pictures[0], self.shown.label),
            (0.692, 0.295, self.pictures[2], self.shown.difference_label),
        ):
            axes = self.figure.add_axes((left, 0.098, width, 0.02))
            bar = self.figure.colorbar(picture, cax=axes, orientation="horizontal")
            label_bar(bar, label, self.shown, difference=picture is self.pictures[2])

    def _legend(self) -> None:
        """Say what the outlines are."""
        if "affected" not in self.comparison.forecast.trajectory.fields:
            return
        entries = [("affected gas, forecast", FORECAST_EDGE)]
        if self.comparison.affected is not None:
            entries.insert(0, ("affected gas, simulation", SIMULATION_EDGE))
        for k, (label, color) in enumerate(entries):
            x = 0.262 + 0.236 * k
            self.figure.text(x, 0.935, "▬", color=color, fontsize=10)
            self.figure.text(x + 0.022, 0.935, label, color=self.colors.muted, fontsize=9)

    def show(self, frame: int) -> None:
        """Show a forecast frame; -1 is the start."""
        comparison, shown, cut = self.comparison, self.shown, self.slicer
        forecast, simulation = comparison.forecast, comparison.simulation
        field = self.start if frame < 0 else np.asarray(forecast.trajectory.fields[shown.field][frame])
        if simulation is None or frame < 0:
            other = self.start
        else:
            other = np.asarray(simulation.fields[shown.field][frame])
        self.pictures[0].set_data(cut(shown.values(other)))
        self.pictures[1].set_data(cut(shown.values(field)))
        self.pictures[2].set_data(cut(shown.difference(field, other)))
        while self.outlines:
            self.outlines.pop().remove()
        if frame >= 0:
            self._outline(frame)
        times, start = forecast.trajectory.times, forecast.initial.times[-1]
        since = 0.0 if frame < 0 else float(times[frame] - start)
        self.clock.set_text(f"t = {time_label(since, forecast.trajectory.time_unit)}")

    def draw(self) -> None:
        """Draw what changes, and the frames of the panels, which lie above it."""
        for axes, picture in zip(self.axes, self.pictures, strict=True):
            axes.draw_artist(picture)
        for edge in self.outlines:
            edge.axes.draw_artist(edge)
        for axes in self.axes:
            for spine in axes.spines.values():
                axes.draw_artist(spine)
        self.figure.draw_artist(self.clock)

    def _outline(self, frame: int) -> None:
        """Draw the edge of the gas that is affected, the truth's also where the forecast's is."""
        comparison = self.comparison
        if "affected" not in comparison.forecast.trajectory.fields:
            return
        forecast = comparison.forecast.affected_mask(frame)
        if comparison.affected is not None and np.isfinite(comparison.affected[frame]).all():
            for axes in self.axes[:2]:
                self._edge(axes, comparison.affected[frame] > 0.5, SIMULATION_EDGE)
        self._edge(self.axes[1], forecast, FORECAST_EDGE)

    def _edge(self, axes: Axes, mask: np.ndarray, color: str) -> None:
        self.outlines.append(outline(axes, self.slicer, mask, color))
