"""Frames that were read, kept for the windows that share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np


class FrameCache:
    """The frames that were asked for last.

    Parameters
    ----------
    most_bytes
        Memory for them; at least the frames of one call are kept.
    """

    def __init__(self, most_bytes: int = 1 << 30) -> None:
        self.most_bytes = most_bytes
        self._frames: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(
        self, keys: Sequence[Hashable], read: Callable[[list[int]], Sequence[np.ndarray]]
    ) -> list[np.ndarray]:
        """Return a frame for every key; `read(places)` gives those that are not kept, by place in `keys`."""
        absent = [place for place, key in enumerate(keys) if key not in self._frames]
        if absent:
            for place, frame in zip(absent, read(absent), strict=True):
                self._frames[keys[place]] = frame
                self._bytes += frame.nbytes
        for key in keys:
            self._frames.move_to_end(key)
        found = [self._frames[key] for key in keys]
        while self._bytes > self.most_bytes and len(self._frames) > len(keys):
            self._bytes -= self._frames.popitem(last=False)[1].nbytes
        return found
