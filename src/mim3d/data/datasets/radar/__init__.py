"""Radar images, in the formats that weather services and benchmarks publish."""

from __future__ import annotations

from mim3d.data.datasets.card import Appearance, DatasetCard
from mim3d.data.datasets.radar.formats import files as files
from mim3d.data.datasets.radar.formats import kind as kind
from mim3d.data.datasets.radar.frames import NO_ECHO as NO_ECHO
from mim3d.data.datasets.radar.frames import Quantity as Quantity
from mim3d.data.datasets.radar.frames import RadarFrames as RadarFrames
from mim3d.data.datasets.radar.sequences import RadarSequences as RadarSequences
from mim3d.data.datasets.radar.zr import ZRRelation as ZRRelation

CARD = DatasetCard(
    name="radar",
    summary="radar images: KNMI and ODIM HDF5, FMI PGM, SEVIR, MRMS GRIB2, MeteoNet, npz",
    protocol=(
        "10 frames -> 10 frames, windows that begin at every frame and cross no gap; the first 80 % of the "
        "time is training, then 10 % validation and 10 % test; MSE, and CSI, POD, FAR, HSS at 30, 40, 50 dBZ"
    ),
    terms="as the weather service says; nothing comes with mim3d. See docs/data/radar.md.",
    citation="as the weather service says; protocol: MIM, arXiv:1811.07490",
    files=(
        "A file, or a folder of files: .h5 of KNMI, ODIM or SEVIR (with its CATALOG.csv), .pgm or .pgm.gz of "
        "FMI, .grib2 or .grib2.gz of MRMS (pip install 'mim3d[radar]'), .npz of MeteoNet or of your own."
    ),
    options=RadarSequences,
    appearance=Appearance(
        colormap="turbo",
        # The colours that weather services have for reflectivity, every 5 dBZ.
        unit="dBZ",
        levels=tuple(float(dbz) for dbz in range(5, 80, 5)),
        colors=(
            *("#04e9e7", "#019ff4", "#0300f4", "#02fd02", "#01c501", "#008e00", "#fdf802"),
            *("#e5bc00", "#fd9500", "#fd0000", "#d40000", "#bc0000", "#f800fd", "#9854c6"),
        ),
        below="#101318",
    ),
)

__all__ = [
    "CARD",
    "NO_ECHO",
    "Quantity",
    "RadarFrames",
    "RadarSequences",
    "ZRRelation",
    "files",
    "kind",
]
