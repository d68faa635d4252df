"""Sequences of frames from files, their scaling and their symmetries."""

from mim3d.data import original as original
from mim3d.data import symmetries as symmetries
from mim3d.data import well as well
from mim3d.data.clips import ClipDataset as ClipDataset
from mim3d.data.clips import ClipSampler as ClipSampler
from mim3d.data.derived import affected as affected
from mim3d.data.derived import channels as channels
from mim3d.data.derived import site_marker as site_marker
from mim3d.data.readers import kind as kind
from mim3d.data.readers import read as read
from mim3d.data.scaling import Scaling as Scaling
from mim3d.data.splits import split_of as split_of

__all__ = [
    "ClipDataset",
    "ClipSampler",
    "Scaling",
    "affected",
    "channels",
    "kind",
    "original",
    "read",
    "site_marker",
    "split_of",
    "symmetries",
    "well",
]
