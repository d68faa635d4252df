"""Sequences as papers show them: input, truth and forecast, in a moving picture and in a strip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mim3d.data.datasets import DATASETS
from mim3d.data.datasets.card import Appearance
from mim3d.data.files import replacing
from mim3d.report.images.forecast import ImageForecast
from mim3d.report.style import Theme, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("red", "green", "blue")
_MOST_COLUMNS = 10
_FRAME_MILLISECONDS = 220
_PAUSE_MILLISECONDS = 1500


class _Drawing:
    """How the frames of one data set become pictures: which maps, colours and legend.

    A map is what one panel shows: all channels where they are red, green and blue, otherwise one channel.
    """

    def __init__(self, one: ImageForecast, colors: Theme) -> None:
        from matplotlib import colormaps
        from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize

        sequences = one.sequences
        card = DATASETS.get(sequences.dataset)
        look = card.appearance if card is not None else Appearance(colormap="viridis")
        self.one = one
        self.is_rgb = sequences.channels == _COLORS
        self.maps: tuple[str, ...] = ("",) if self.is_rgb else sequences.channels
        # Colours in the unit of the values, the same for all panels.
        low, high = (
            one.physical(
                np.full((len(sequences.channels), *(1,) * len(sequences.grid)), end, np.float32)
            ).ravel()[0]
            for end in sequences.value_range
        )
        if sequences.unit and not look.levels:
            # The range of a unit is that of all data, which one sequence seldom fills.
            shown = one.physical(np.concatenate([one.given, one.truth]))
            high = max(float(np.nanpercentile(shown, 99.8)), float(low) + 1e-6)
        stepped = bool(look.levels) and sequences.unit == look.unit
        self.has_bar = not self.is_rgb and (bool(sequences.unit) or look.colormap != "gray")
        self.norm: Any = Normalize(float(low), float(high), clip=True)
        self.colormap: Any = colormaps[look.colormap]
        self.levels: tuple[float, ...] | None = None
        if stepped:
            self.levels = look.levels
            steps = ListedColormap(list(look.colors))
            self.colormap = steps.with_extremes(under=look.below, over=look.colors[-1])
            self.norm = BoundaryNorm(look.levels, len(look.colors), clip=False)
        self.colormap = self.colormap.with_extremes(bad=colors.grid)
        self.label = (
            f"{look.label or sequences.channels[0]}{f'  [{sequences.unit}]' if sequences.unit else ''}"
        )
        if len(self.maps) > 1 and not look.label:
            self.label = sequences.unit

    def pixels(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Return map `number` of a frame `(C, *space)`: `(height, width)`, or with colours last."""
        values = self.one.physical(frame)
        if values.ndim == 4:
            # A box is seen from its first axis.
            values = values.max(axis=1)
        if values.ndim == 2:
            values = values[:, None]
        if self.is_rgb:
            return np.clip(np.nan_to_num(np.moveaxis(values, 0, -1)), 0, 1)
        return np.ma.masked_invalid(values[number])

    def show(self, axes: Axes, frame: np.ndarray, number: int) -> Any:
        """Draw one map."""
        axes.set_xticks([])
        axes.set_yticks([])
        options = {} if self.is_rgb else {"norm": self.norm, "cmap": self.colormap}
        return axes.imshow(self.pixels(frame, number), interpolation="nearest", **options)

    def add_bar(self, figure: Figure, picture: Any, axes: Any) -> None:
        """Draw the legend of the colours."""
        if not self.has_bar:
            return
        bar = figure.colorbar(picture, ax=axes, fraction=0.03, pad=0.015, ticks=self.levels)
        bar.set_label(self.label)
        bar.outline.set_visible(False)  # type: ignore[operator]

    @property
    def aspect(self) -> float:
        """Height of a panel over its width."""
        grid = self.one.sequences.grid[-2:]
        return grid[0] / grid[1] if len(grid) == 2 else 0.2

    def clock(self, frame: int) -> str:
        """Say when a frame is, counted from the last one that was given."""
        sequences = self.one.sequences
        time = (frame - sequences.input_length + 1) * sequences.time_step
        number = f"{time:+g}".replace("-", "−") if time else "0"
        is_count = sequences.time_unit == "frame"
        return f"frame {number}" if is_count else f"{number} {sequences.time_unit}"


def animate_images(one: ImageForecast, path: str | Path) -> None:
    """Write a GIF that loops: the input as it plays, then truth and forecast beside its last frame.

    Parameters
    ----------
    one
        The forecast of one sequence.
    path
        File to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    inputs, steps = len(one.given), len(one.forecast)
    with theme(dark=True) as colors:
        drawing = _Drawing(one, colors)
        rows = len(drawing.maps)
        width = 7.2 + 0.9 * drawing.has_bar
        figure = Figure(figsize=(width, 0.75 + rows * 2.3 * drawing.aspect), dpi=90, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        figure.suptitle(f"{one.sequences.name} · {one.label}", x=0.012, ha="left", fontsize=9)
        panels = figure.subplots(rows, 3, squeeze=False)
        nothing = np.full_like(one.given[0], np.nan)
        pictures = [
            [drawing.show(panels[row, column], one.given[0], row) for column in range(3)]
            for row in range(rows)
        ]
        for row, name in enumerate(drawing.maps):
            if rows > 1:
                panels[row, 0].set_ylabel(name)
        for axes in panels[0]:
            axes.set_title("Truth", fontsize=9)
        drawing.add_bar(figure, pictures[0][0], panels)
        figure.draw_without_rendering()
        # The places stay as they are while the words change.
        figure.set_layout_engine("none")
        images = []
        for frame in range(inputs + steps):
            ahead = frame - inputs
            shown = (
                one.given[min(frame, inputs - 1)],
                one.truth[ahead] if ahead >= 0 else nothing,
                one.forecast[ahead] if ahead >= 0 else nothing,
            )
            titles = (f"Input  {drawing.clock(min(frame, inputs - 1))}", "Truth", "Forecast")
            for column, (values, title) in enumerate(zip(shown, titles, strict=True)):
                later = column > 0 and ahead >= 0
                panels[0, column].set_title(
                    f"{title}  {drawing.clock(frame)}" if later else title, fontsize=9
                )
                for row in range(rows):
                    pictures[row][column].set_data(drawing.pixels(values, row))
            canvas.draw()
            images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    _save_gif(images, Path(path))


def _save_gif(images: list[Any], path: Path) -> None:
    from PIL import Image

    # One palette, of the first and some of the later frames, so that nothing flickers.
    some = images[:: max(len(images) // 4, 1)] + images[-1:]
    sheet = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for number, image in enumerate(some):
        sheet.paste(image, (0, number * image.height))
    palette = sheet.quantize(colors=256)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [_FRAME_MILLISECONDS] * len(frames)
    durations[-1] = _PAUSE_MILLISECONDS
    with replacing(path) as temporary:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
        )


def draw_strip(one: ImageForecast, path: str | Path) -> None:
    """Write a PNG of rows of frames: input, truth, forecast.

    Parameters
    ----------
    one
        The forecast of one sequence.
    path
        File to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    inputs, steps = len(one.given), len(one.forecast)
    rows = [("Input", one.given, 0), ("Truth", one.truth, inputs), ("Forecast", one.forecast, inputs)]
    columns = min(max(inputs, steps), _MOST_COLUMNS)
    with theme(dark=False) as colors:
        drawing = _Drawing(one, colors)
        maps = len(drawing.maps)
        figure = Figure(
            figsize=(
                0.8 + 0.95 * columns + 0.9 * drawing.has_bar,
                0.3 + 3 * maps * (0.95 * drawing.aspect + 0.14),
            ),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.05, h_pad=0.01, wspace=0.01, hspace=0.01)  # type: ignore[union-attr]
        panels = figure.subplots(3 * maps, columns, squeeze=False)
        for axes in panels.ravel():
            axes.set_axis_off()
        picture = None
        for number, (name, frames, first) in enumerate(rows):
            chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), columns)).astype(int))
            for row, channel in enumerate(drawing.maps):
                for column, frame in enumerate(chosen):
                    axes = panels[number * maps + row, column]
                    axes.set_axis_on()
                    picture = drawing.show(axes, frames[frame], row)
                    if row == 0:
                        axes.set_title(drawing.clock(first + frame), fontsize=7, pad=2)
                panels[number * maps + row, 0].set_ylabel(f"{name}\n{channel}" if maps > 1 else name)
        drawing.add_bar(figure, picture, panels)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130)
