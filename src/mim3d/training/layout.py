"""What the frames of a training are like, told by its data or, before there are any, by the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from mim3d.data import ClipDataset
from mim3d.data.datasets import DatasetCard, card, folder, human36m, radar, taxibj
from mim3d.data.datasets.card import keyword_options
from mim3d.data.datasets.moving_mnist import COUNTS, MovingMNIST
from mim3d.data.datasets.moving_mnist_3d import MovingMNIST3D
from mim3d.data.datasets.radar.region import Region
from mim3d.errors import UserError
from mim3d.training.data_module import ForecastDataModule
from mim3d.training.frames import Frames
from mim3d.training.recipe import Recipe

_VECTORS = ("velocity", "momentum", "magnetic_field")
"""Fields with a component along each axis, where no data say it."""

_RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class FrameLayout:
    """What a network sees.

    Parameters
    ----------
    channels
        Names of the channels that are forecast.
    grid
        Voxels, or pixels, along each axis of a whole frame.
    static
        Names of the channels that are given.
    guided
        Whether there is a guide to the channels that are forecast, as many more.
    clips
        To train on; None where only the data could tell.
    frames
        The data that are trained on, where they are here.
    run_bytes
        Of all runs, where they are to be kept in memory.
    """

    channels: tuple[str, ...]
    grid: tuple[int, ...]
    static: tuple[str, ...] = ()
    guided: bool = False
    clips: int | None = None
    frames: Frames | None = None
    run_bytes: int = 0

    @property
    def in_channels(self) -> int:
        """Channels of a frame that a network takes."""
        return len(self.channels) + len(self.static)

    @property
    def clip_channels(self) -> int:
        """Channels of a clip, those of the guide counted too."""
        return self.in_channels + (len(self.channels) if self.guided else 0)


def frame_layout(recipe: Recipe, grid: Sequence[int] | None = None) -> tuple[Recipe, FrameLayout]:
    """Tell what the frames of a training are like, without data where a recipe or its data set say it.

    Parameters
    ----------
    recipe
        Its data are opened where `data.folder` names them.
    grid
        Voxels along each axis, where there are no data and nothing else says it.

    Returns
    -------
    tuple of Recipe and FrameLayout
        The recipe with the lengths that it leaves to the data, and the layout.

    Raises
    ------
    UserError
        If the data are not usable, or nothing says how large a frame is, or two things say it differently.
    """
    if grid is not None and (not 1 <= len(grid) <= 3 or min(grid) < 1):
        raise UserError(f"grid needs 1 to 3 positive numbers, found {tuple(grid)}")
    wanted = None if grid is None else tuple(grid)
    if recipe.data.folder:
        recipe, layout = _of_data(recipe)
    elif recipe.data.dataset:
        recipe, layout = _of_data_set(recipe, wanted)
    else:
        layout = _of_runs(recipe, wanted)
    if wanted is not None and wanted != layout.grid:
        raise UserError(
            f"the frames of {recipe.data.folder or recipe.data.dataset} are {_sides(layout.grid)}, not "
            f"{_sides(wanted)}: leave --grid out"
        )
    return recipe, layout


def _of_data(recipe: Recipe) -> tuple[Recipe, FrameLayout]:
    data = ForecastDataModule(recipe)
    kept = 0
    if recipe.machine.cache:
        for clips in (data.training, data.validation):
            if isinstance(clips, ClipDataset):
                # In half precision; what is given, once a clip.
                images = clips.num_frames * (len(clips.channels) - len(clips.static_channels))
                images *= 2 if clips.guided else 1
                kept += 2 * len(clips) * (images + len(clips.static_channels)) * prod(clips.grid)
    grid = tuple(data.training.grid)
    layout = FrameLayout(
        data.channels, grid, data.static, recipe.is_guided, len(data.training), data.training, kept
    )
    return replace(recipe, data=data.recipe.data), layout


def _of_runs(recipe: Recipe, grid: tuple[int, ...] | None) -> FrameLayout:
    if grid is None:
        raise UserError("a plan needs --data DIR, or --grid with the voxels along each axis")
    data = recipe.data
    return FrameLayout(
        _channels(data.fields, len(grid)), grid, _channels(data.static, len(grid)), recipe.is_guided
    )


def _channels(names: Sequence[str], num_axes: int) -> tuple[str, ...]:
    """Name the channels of fields, one of a scalar and one an axis of a vector."""
    return tuple(
        channel
        for name in names
        for channel in ([f"{name}_{axis}" for axis in "xyz"[:num_axes]] if name in _VECTORS else [name])
    )


def _of_data_set(recipe: Recipe, grid: tuple[int, ...] | None) -> tuple[Recipe, FrameLayout]:
    """Take from a named data set what it fixes, and from its options what they say."""
    which = card(recipe.data.dataset)
    if which is folder.CARD:
        raise UserError(
            "a plan of the data set folder needs --data DIR: only its dataset.yaml and files say it"
        )
    given = {"num_frames": recipe.data.frames, "input_length": recipe.data.input_length}
    options = _options(which, {name: value for name, value in given.items() if value} | recipe.data.options)
    if which is taxibj.CARD:
        layout = FrameLayout(taxibj.CHANNELS, (32, 32))
    elif which is radar.CARD:
        layout = FrameLayout(
            (options["quantity"] or "reflectivity",), _radar_grid(options) or _asked(which, grid)
        )
    elif which is human36m.CARD:
        layout = FrameLayout(_RGB, (_human36m_side(options),) * 2)
        options |= {"num_frames": 8, "input_length": 4}
    else:
        made = which.options
        assert isinstance(made, type)
        assert issubclass(made, MovingMNIST)
        layout = FrameLayout(
            made.channel_names,
            (_whole("size", options["size"]),) * (3 if issubclass(made, MovingMNIST3D) else 2),
            clips=COUNTS["train"] if options["count"] is None else _whole("count", options["count"]),
        )
    lengths = {name: _whole(name, options[name]) for name in given}
    data = replace(recipe.data, frames=lengths["num_frames"], input_length=lengths["input_length"])
    return replace(recipe, data=data), layout


def _options(which: DatasetCard, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a data set, those that are given in place of its defaults."""
    known = keyword_options(which.options)
    for name in given:
        if name not in known:
            raise UserError(
                f"there is no option {name!r} for {which.name}; there are: {', '.join(known) or 'none'}"
            )
    return known | given


def _human36m_side(options: dict[str, Any]) -> int:
    sides = {"mim": 128, "openstl": 256}
    if options["protocol"] not in sides:
        raise UserError(f"protocol is {options['protocol']!r}; it must be one of {', '.join(sides)}")
    return _whole("size", options["size"] or sides[options["protocol"]])


def _radar_grid(options: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the pixels of radar images, where options say them without looking at a file."""
    if options["tile"] is not None:
        return (_whole("tile", options["tile"]),) * 2
    crop = options["crop"]
    if crop is None:
        return None
    top, left, height, width = crop if len(crop) == 4 else (0, 0, 0, 0)
    return Region.of((top + height, left + width), crop, options["coarsen"]).grid


def _asked(which: DatasetCard, grid: tuple[int, ...] | None) -> tuple[int, ...]:
    if grid is None:
        raise UserError(
            f"the data set {which.name} has images of any size: a plan needs --data DIR, "
            "--grid HEIGHT WIDTH, or the option tile or crop"
        )
    if len(grid) != 2:
        raise UserError(f"images have 2 axes, --grid has {len(grid)}")
    return grid


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"option {name} is to be a whole number, 1 or larger, found {value!r}")
    return value


def _sides(grid: tuple[int, ...]) -> str:
    return " x ".join(map(str, grid))
