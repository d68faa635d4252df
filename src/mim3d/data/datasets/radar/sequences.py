"""Sequences of radar images: windows in time of an archive of any of the formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mim3d.data.datasets.radar.cache import FrameCache
from mim3d.data.datasets.radar.formats import open_source
from mim3d.data.datasets.radar.frames import Quantity
from mim3d.data.datasets.radar.region import Region
from mim3d.data.datasets.radar.windows import (
    Moment,
    Series,
    borders,
    series_of,
    split_of_window,
    usual_time_step,
    windows,
)
from mim3d.data.datasets.radar.zr import ZRRelation
from mim3d.data.scaling import Scaling
from mim3d.data.sequences import Sequences, check_split
from mim3d.errors import UserError

UNITS: dict[Quantity, str] = {"reflectivity": "dBZ", "rain_rate": "mm/h", "vil": "level"}
RANGES: dict[Quantity, tuple[float, float]] = {
    "reflectivity": (0.0, 70.0),
    "rain_rate": (0.0, 100.0),
    "vil": (0.0, 255.0),
}
"""Values that items hold as 0 and 1. Reflectivity below 0 dBZ, and no echo, become 0 dBZ."""

THRESHOLDS: dict[Quantity, tuple[float, ...]] = {
    "reflectivity": (30.0, 40.0, 50.0),
    "rain_rate": (0.5, 2.0, 5.0, 10.0, 30.0),
    "vil": (16.0, 74.0, 133.0, 160.0, 181.0, 219.0),
}
"""Of MIM (arXiv 1811.07490), HKO-7 (arXiv 1706.03458) and SEVIR."""

_PROBES = 3
"""Frames, spread over the archive, that are looked at for where anything was measured."""


class RadarSequences(Sequences):
    """Windows of radar images that follow each other without a gap.

    Pixels that were not measured are NaN in `sequence`, in an item 0 (as no echo is), and True in `mask`.

    Parameters
    ----------
    source
        A file, or a folder with files of any of the formats.
    split
        `"train"`, `"validation"` or `"test"`: windows that lie wholly in its part of the time.
    quantity
        `"reflectivity"` [dBZ] (the default) or `"rain_rate"` [mm/h]; SEVIR's files have `"vil"` alone.
    input_length, num_frames
        Frames given, and frames of a window.
    time_step
        Between frames [minutes]; that of the files by default. Frames in between are passed over.
    stride
        Frames of the files, at least, from the start of a window to that of the next.
    crop
        `(top, left, height, width)` in pixels of the files; all by default.
    coarsen
        Pixels of the files along the side of a pixel.
    tile
        Cut the images into squares of so many pixels a side, each a sequence of its own; what is left at the
        right and the lower end is not used, nor are squares where nothing was measured.
    augment
        Cut training sequences at random places up to half a tile off, another in every epoch, and turn and
        mirror them at random: an archive of one storm has few directions of its own.
    zr
        `(a, b)` of Z = a R^b, by which reflectivity and rain rate are made of each other.
    thresholds
        Values from which on a pixel counts as an event, in the unit of `quantity`; by default 30, 40, 50 dBZ.
    shares
        Of the time, in order, for training, validation and test.
    validation_from, test_from
        When validation and test begin, such as `"2019-06-10T00:40"` (UTC), in place of `shares`.

    Raises
    ------
    UserError
        If the files or an option are not usable, or no window is left for the split.
    """

    def __init__(
        self,
        source: str | Path,
        split: str = "test",
        *,
        quantity: Quantity | None = None,
        input_length: int = 10,
        num_frames: int = 20,
        time_step: float | None = None,
        stride: int = 1,
        crop: Sequence[int] | None = None,
        coarsen: int = 1,
        tile: int | None = None,
        augment: bool = False,
        zr: Sequence[float] = (200.0, 1.6),
        thresholds: Sequence[float] | None = None,
        shares: Sequence[float] = (0.8, 0.1, 0.1),
        validation_from: Moment | None = None,
        test_from: Moment | None = None,
    ) -> None:
        check_split(split)
        if num_frames < 2 or stride < 1 or (tile is not None and tile < 1):
            raise UserError(
                f"num_frames must be >= 2, stride and tile >= 1, found {num_frames}, {stride}, {tile}"
            )
        if time_step is not None and not time_step > 0:
            raise UserError(f"time_step must be > 0 minutes, found {time_step}")
        if len(zr) != 2:
            raise UserError(f"zr must be two numbers, a and b of Z = a R^b, found {zr}")
        self.zr = ZRRelation(*zr)
        found = open_source(source)
        self.quantity: Quantity = _quantity(quantity, found[0].quantity, source)
        self.series = series_of(found)
        step = time_step or usual_time_step(self.series)
        self.region = Region.of(found[0].grid, crop, coarsen)
        self._cache = FrameCache()
        border = borders(
            np.concatenate([one.times for one in self.series]), shares, validation_from, test_from
        )
        self.windows: list[tuple[Series, np.ndarray]] = []
        total = 0
        for one in self.series:
            rows = windows(one.times, num_frames, step, stride)
            total += len(rows)
            self.windows += [(one, own) for own in rows if split_of_window(one.times[own], border) == split]
        if not self.windows:
            raise UserError(
                f"{source} has {total} windows of {num_frames} frames {step:g} min apart without a gap, none "
                f"of them wholly in the time of {split}; validation begins {border[0]}, test {border[1]}"
            )
        side = self.region.grid if tile is None else (tile, tile)
        self.tiles = self._measured_tiles(side, source)
        self.augment = augment and split == "train"
        super().__init__(
            name="radar",
            channels=(self.quantity,),
            grid=side,
            num_frames=num_frames,
            input_length=input_length,
            split=split,
            unit=UNITS[self.quantity],
            scaling=_scaling(self.quantity),
            time_step=step,
            time_unit="min",
            thresholds=THRESHOLDS[self.quantity] if thresholds is None else tuple(map(float, thresholds)),
        )

    def _measured_tiles(self, side: tuple[int, int], source: str | Path) -> list[tuple[int, int]]:
        """Return the corners of the tiles in which anything was measured."""
        height, width = self.region.grid
        corners = [
            (top, left)
            for top in range(0, height - side[0] + 1, side[0])
            for left in range(0, width - side[1] + 1, side[1])
        ]
        if not corners:
            raise UserError(
                f"tile must be at most the {height} x {width} pixels of the region, found {side[0]}"
            )
        probes = {round(place) for place in np.linspace(0, len(self.windows) - 1, _PROBES)}
        measured = np.zeros(self.region.grid, bool)
        for place in probes:
            series, rows = self.windows[place]
            measured |= ~np.isnan(self._frames(series, rows[:1])[0])
        kept = [
            (top, left) for top, left in corners if measured[top : top + side[0], left : left + side[1]].any()
        ]
        if not kept:
            times = ", ".join(
                str(self.windows[place][0].times[self.windows[place][1][0]]) for place in probes
            )
            raise UserError(f"{source}: no pixel of the region was measured at {times}")
        return kept

    def __len__(self) -> int:
        """Return the number of windows times the number of tiles."""
        return len(self.windows) * len(self.tiles)

    def label(self, index: int) -> str:
        """Return when the first frame of a sequence is of, and where."""
        window, tile = divmod(index % len(self), len(self.tiles))
        series, rows = self.windows[window]
        parts = [str(series.times[rows[0]]).replace("T", " ")]
        if series.place:
            parts.insert(0, series.place)
        if len(self.tiles) > 1:
            parts.append("tile {} {}".format(*self.tiles[tile]))
        return ", ".join(parts)

    def number(self, epoch: int, index: int) -> int:
        """Return which sequence item `index` of an epoch is; `augment` gives every epoch its own."""
        return epoch * len(self) + index if self.augment else index

    def sequence(self, number: int) -> np.ndarray:
        """Return one window `(T, 1, height, width)`, scaled; pixels that were not measured are NaN."""
        window, tile = divmod(number % len(self), len(self.tiles))
        corner = np.array(self.tiles[tile])
        generator = np.random.default_rng(number)
        if self.augment:
            room = np.subtract(self.region.grid, self.grid)
            half = np.array(self.grid) // 2
            corner = np.clip(corner + generator.integers(-half, half + 1), 0, room)
        frames = np.stack(self._frames(*self.windows[window]))
        (top, left), (height, width) = corner, self.grid
        frames = frames[:, None, top : top + height, left : left + width]
        if self.augment:
            quarters = int(generator.integers(4)) if height == width else 2 * int(generator.integers(2))
            frames = np.rot90(frames, quarters, (-2, -1))
            frames = frames[..., ::-1] if generator.integers(2) else frames
        low = RANGES[self.quantity][0]
        return self.scaling.forward(np.maximum(frames, low), num_axes=2).astype(np.float32)

    def _frames(self, series: Series, rows: np.ndarray) -> list[np.ndarray]:
        """Return frames `(height, width)` of the region in the wanted quantity."""

        def read(places: list[int]) -> list[np.ndarray]:
            # Rows of one file are read together.
            result: dict[int, np.ndarray] = {}
            sources = {place: series.frames[rows[place]] for place in places}
            for frames in {id(frames): frames for frames, _ in sources.values()}.values():
                own = [place for place in places if sources[place][0] is frames]
                values = self.region.take(frames.read([sources[place][1] for place in own]), frames.quantity)
                result |= zip(own, self._convert(values, frames.quantity), strict=True)
            return [result[place] for place in places]

        return self._cache.get([(series.place, int(row)) for row in rows], read)

    def _convert(self, values: np.ndarray, quantity: Quantity) -> np.ndarray:
        if quantity == self.quantity:
            return values
        if self.quantity == "reflectivity":
            return self.zr.reflectivity(values).astype(np.float32)
        return self.zr.rain_rate(values).astype(np.float32)


def _quantity(wanted: Quantity | None, measured: Quantity, source: str | Path) -> Quantity:
    """Return the quantity of the items."""
    if wanted is None:
        return "vil" if measured == "vil" else "reflectivity"
    if wanted not in UNITS:
        raise UserError(f"quantity is {wanted!r}; it must be one of {', '.join(UNITS)}")
    if (wanted == "vil") != (measured == "vil"):
        raise UserError(f"{source} holds {measured}, of which no {wanted} can be made")
    return wanted


def _scaling(quantity: Quantity) -> Scaling:
    low, high = RANGES[quantity]
    return Scaling((quantity,), ("linear",), (low,), (high - low,))
