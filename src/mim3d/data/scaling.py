"""Scaling of fields to numbers of order one, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch

from mim3d.errors import UserError

Kind = Literal["log", "asinh", "linear", "none"]
Array = TypeVar("Array", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Scaling:
    """A reversible map of every channel to numbers of order one.

    | kind | scaled | for |
    |---|---|---|
    | `"log"` | (log10 x - offset) / scale | what is positive and spans decades: density, temperature |
    | `"asinh"` | asinh(x / scale) | what has both signs and spans decades: velocities in a blast |
    | `"linear"` | (x - offset) / scale | what is of one size |
    | `"none"` | x | what is of order one already: masks, markers, images in [0, 1] |

    Parameters
    ----------
    channels
        Names of the channels.
    kinds
        Kind of every channel.
    offset, scale
        The constants of every channel, from `fit`; scale > 0.
    low, high
        Smallest and largest scaled value of every channel in the data that the scaling was fitted to;
        infinite where not known. Values beyond them are scaled all the same.
    """

    channels: tuple[str, ...]
    kinds: tuple[Kind, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check that every channel has a known kind and usable constants."""
        count = len(self.channels)
        if not count == len(self.kinds) == len(self.offset) == len(self.scale):
            raise UserError("a scaling needs one kind, offset and scale for every channel")
        if not self.low and not self.high:
            object.__setattr__(self, "low", (-np.inf,) * count)
            object.__setattr__(self, "high", (np.inf,) * count)
        if not count == len(self.low) == len(self.high):
            raise UserError("a scaling needs one lowest and highest value for every channel, or none")
        for channel, kind, offset, scale in zip(
            self.channels, self.kinds, self.offset, self.scale, strict=True
        ):
            if kind not in get_args(Kind):
                raise UserError(
                    f"scaling {kind!r} of {channel!r} is unknown; known are {', '.join(get_args(Kind))}"
                )
            if not (np.isfinite(offset) and np.isfinite(scale) and scale > 0):
                raise UserError(f"scaling of {channel!r} is unusable: offset {offset}, scale {scale}")

    @classmethod
    def fit(
        cls,
        arrays: Iterable[np.ndarray | torch.Tensor],
        channels: Sequence[str],
        kinds: Sequence[Kind],
        *,
        num_axes: int = 3,
        vectors: Sequence[Sequence[int]] = (),
    ) -> Scaling:
        """Find the constants from data, which are gone through once and never held together.

        `"log"` and `"linear"` are centred and divided by their standard deviation, `"asinh"` divided by the
        mean magnitude.

        Parameters
        ----------
        arrays
            Any number of `(..., C, *space)`.
        channels, kinds
            Names of the channels, and their kinds.
        num_axes
            Number of axes of space.
        vectors
            For every vector field the channels of its components. They get no offset and one common scale, so
            that turning a box and scaling it may change places.

        Raises
        ------
        UserError
            If there are no data, or they hold NaN or, for `"log"`, anything not > 0.
        """
        num_channels = len(channels)
        if len(kinds) != num_channels:
            raise UserError(f"{num_channels} channels need as many kinds of scaling, {len(kinds)} were given")
        moments = [_Moments() for _ in channels]
        low, high = np.full(num_channels, np.inf), np.full(num_channels, -np.inf)
        empty = True
        for array in arrays:
            empty = False
            values = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
            values = np.moveaxis(values, -(num_axes + 1), 0)
            if len(values) != num_channels:
                raise UserError(f"{num_channels} channels are named, an array has {len(values)}")
            low = np.minimum(low, values.min(axis=tuple(range(1, values.ndim))))
            high = np.maximum(high, values.max(axis=tuple(range(1, values.ndim))))
            for channel, kind, moment, own in zip(channels, kinds, moments, values, strict=True):
                if not np.isfinite(own).all():
                    raise UserError(f"channel {channel!r} holds NaN or infinity; a scaling cannot be fitted")
                if kind == "log":
                    _check_positive(own, channel)
                    moment.add(np.log10(own, dtype=np.float64))
                elif kind != "none":
                    moment.add(own.astype(np.float64))
        if empty:
            raise UserError("no data to fit a scaling to")
        mean = np.array([moment.mean for moment in moments])
        deviation = np.array([moment.deviation for moment in moments])
        magnitude = np.array([moment.magnitude for moment in moments])
        for components in vectors:
            index = list(components)
            # The mean square about zero is the squared deviation and the squared mean.
            deviation[index] = np.sqrt((deviation[index] ** 2 + mean[index] ** 2).mean())
            mean[index] = 0.0
            magnitude[index] = magnitude[index].mean()
            high[index] = max(high[index].max(), -low[index].min())
            low[index] = -high[index]
        offset, scale = [], []
        for number, kind in enumerate(kinds):
            size = {"asinh": magnitude[number], "none": 1.0}.get(kind, deviation[number])
            offset.append(float(mean[number]) if kind in ("log", "linear") else 0.0)
            # A channel that never changes, but for the rounding of its mean, is centred and left at its size.
            scale.append(float(size) if size > 1e-12 * abs(mean[number]) else 1.0)
        fitted = cls(tuple(channels), tuple(kinds), tuple(offset), tuple(scale))
        low, high = fitted.forward(np.stack([low, high]), num_axes=0)
        return replace(fitted, low=tuple(low.tolist()), high=tuple(high.tolist()))

    @classmethod
    def identity(cls, channels: Sequence[str]) -> Scaling:
        """Return the scaling that leaves all channels as they are."""
        count = len(channels)
        return cls(tuple(channels), ("none",) * count, (0.0,) * count, (1.0,) * count)

    def select(self, channels: Sequence[str]) -> Scaling:
        """Return the scaling of some of the channels, in the order given."""
        unknown = [channel for channel in channels if channel not in self.channels]
        if unknown:
            raise UserError(f"no scaling for {unknown[0]!r}; there are: {', '.join(self.channels)}")
        index = [self.channels.index(channel) for channel in channels]
        return Scaling(
            tuple(channels),
            tuple(self.kinds[number] for number in index),
            tuple(self.offset[number] for number in index),
            tuple(self.scale[number] for number in index),
            tuple(self.low[number] for number in index),
            tuple(self.high[number] for number in index),
        )

    def forward(self, array: Array, *, num_axes: int = 3) -> Array:
        """Scale `(..., C, *space)`, numpy or torch.

        Raises
        ------
        UserError
            If the number of channels is another, or a channel to take logarithms of is not > 0 everywhere.
        """
        return self._map(array, num_axes, inverse=False)

    def inverse(self, array: Array, *, num_axes: int = 3) -> Array:
        """Undo `forward`."""
        return self._map(array, num_axes, inverse=True)

    def _map(self, array: Array, num_axes: int, *, inverse: bool) -> Array:
        axis = array.ndim - num_axes - 1
        if axis < 0 or array.shape[axis] != len(self.channels):
            raise UserError(
                f"{len(self.channels)} channels are scaled ({', '.join(self.channels)}); "
                f"the array's shape is {tuple(array.shape)}"
            )
        library: Any = torch if isinstance(array, torch.Tensor) else np
        scaled = []
        for number, channel in enumerate(self.channels):
            values: Any = array[(slice(None),) * axis + (number,)]
            kind, offset, scale = self.kinds[number], self.offset[number], self.scale[number]
            if kind == "none":
                scaled.append(values)
            elif kind == "asinh":
                scaled.append(library.sinh(values) * scale if inverse else _asinh(library, values / scale))
            elif kind == "linear":
                scaled.append(values * scale + offset if inverse else (values - offset) / scale)
            elif inverse:
                scaled.append(10.0 ** (values * scale + offset))
            else:
                _check_positive(values, channel)
                scaled.append((library.log10(values) - offset) / scale)
        return library.stack(scaled, axis)

    def to_dict(self) -> dict[str, Any]:
        """Return the constants as plain lists, for JSON, which has no infinity."""
        return {
            "channels": list(self.channels),
            "kinds": list(self.kinds),
            "offset": list(self.offset),
            "scale": list(self.scale),
            "low": [value if np.isfinite(value) else None for value in self.low],
            "high": [value if np.isfinite(value) else None for value in self.high],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scaling:
        """Undo `to_dict`.

        Raises
        ------
        UserError
            If an entry is missing or unusable.
        """
        try:
            return cls(
                tuple(values["channels"]),
                tuple(values["kinds"]),
                tuple(float(value) for value in values["offset"]),
                tuple(float(value) for value in values["scale"]),
                tuple(-np.inf if value is None else float(value) for value in values.get("low", ())),
                tuple(np.inf if value is None else float(value) for value in values.get("high", ())),
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"not the description of a scaling: {error}") from error


class _Moments:
    """Mean, spread and mean magnitude of numbers that come in parts."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.magnitude = 0.0
        self._spread = 0.0

    def add(self, values: np.ndarray) -> None:
        """Take in more numbers (update of Chan, Golub & LeVeque 1983, Am. Stat. 37, 242, eq. 2.1)."""
        total = self.count + values.size
        mean = float(values.mean())
        delta = mean - self.mean
        self._spread += float(np.square(values - mean).sum()) + delta**2 * self.count * values.size / total
        self.mean += delta * values.size / total
        self.magnitude += (float(np.abs(values).mean()) - self.magnitude) * values.size / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return (self._spread / self.count) ** 0.5 if self.count else 0.0


def _asinh(library: Any, values: Any) -> Any:
    """Return asinh, accurate for small values; several times faster on a CPU than torch's own."""
    size = library.abs(values)
    return library.copysign(library.log1p(size + size**2 / (1 + library.sqrt(1 + size**2))), values)


def _check_positive(values: Any, channel: str) -> None:
    # Written so that NaN fails too.
    if not bool((values > 0).all()):
        raise UserError(
            f"{channel} must be > 0 everywhere to take its logarithm, found {float(values.min()):.4g}"
        )
