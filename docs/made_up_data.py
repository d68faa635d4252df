r"""Write made-up data in the public formats of TaxiBJ and Human3.6M, which do not come with mim3d.

    python docs/made_up_data.py made-up/     # writes made-up/taxibj and made-up/human36m

They are for trying out commands, and for the gallery. Scores on them say nothing of the real sets. The models
of the gallery's pictures were trained in about a minute of one core each with

    mim3d train taxibj-small --data made-up/taxibj --output runs/taxibj --sampling.start 0 \
      --training.steps 400 --training.validate_every 200 \
      --network.name unet --network.settings '{"hidden_channels": [24, 48, 96], "layer_norm": false}'
    mim3d train human36m-small --data made-up/human36m --output runs/human36m --sampling.start 0 \
      --training.steps 300 --training.validate_every 150 --data.validation_clips 8 \
      --network.name unet --network.settings '{"hidden_channels": [16, 32, 64, 96], "layer_norm": false}'

and drawn with

    python docs/make_gallery.py --models runs/ --only taxibj --only human36m \
      --data taxibj=made-up/taxibj --data human36m=made-up/human36m --credit "taxibj=**made up** ..."
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
from PIL import Image, ImageDraw

CAMERAS = ("54138969", "60457274")
SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")


def write_taxibj(folder: Path, days: int = 91, side: int = 32, seed: int = 0) -> None:
    """Write a city of ring roads: into its centre in the morning, out in the evening, less at weekends.

    Parameters
    ----------
    folder
        Where `BJ13_M32x32_T30_InOut.h5` goes.
    days
        From 2013-07-01 on; of the tenth a half hour is missing, as of many real ones.
    side
        Parts of the city along an axis.
    seed
        Of the chances.
    """
    random = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] + 0.5) * 2 / side - 1
    distance = np.hypot(x, y)
    roads = sum(np.exp(-(((where - place) / 0.07) ** 2)) for where, place in _roads(x, y, distance))
    roads = (0.1 + roads) * np.exp(-1.5 * distance**2)
    slots = np.arange(48 * days)
    hour, day = (slots % 48 / 2)[:, None, None], (slots // 48)[:, None, None]
    calm = 0.05 + 0.2 * (1 - np.cos(2 * np.pi * (hour - 4) / 24))
    works = np.where(day % 7 < 5, 1.0, 0.25)
    # Who lives far out leaves early, and is back late.
    morning = works * np.exp(-0.5 * ((hour - 9 + 1.5 * distance) / 1.2) ** 2)
    evening = works * np.exp(-0.5 * ((hour - 17 - 1.5 * distance) / 1.5) ** 2)
    centre = np.exp(-3 * distance**2)
    into = calm + morning * centre + evening * (1 - centre)
    out = calm + morning * (1 - centre) + evening * centre
    busy = random.normal(1, 0.1, (len(slots), 1, 1, 1)).clip(0.5)
    flows = random.poisson(400 * busy * roads * np.stack([into, out], 1))
    dates = np.datetime64("2013-07-01") + slots // 48
    stamps = [
        f"{date}{1 + slot % 48:02d}".replace("-", "").encode()
        for date, slot in zip(dates, slots, strict=True)
    ]
    kept = slots != 9 * 48 + 20
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "BJ13_M32x32_T30_InOut.h5", "w") as file:
        file.create_dataset("data", data=flows[kept].astype(np.float32), compression="gzip")
        file["date"] = np.array(stamps)[kept]


def _roads(x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Return coordinates and where along them a road is."""
    return [(distance, 0.25), (distance, 0.5), (distance, 0.85), (x, 0.0), (y, 0.0)]


def write_human36m(folder: Path, frames: int = 80, side: int = 256, seed: int = 0) -> None:
    """Write a stick figure that walks in a circle, as the JPEG files of two cameras.

    Parameters
    ----------
    folder
        Where `S1_Walking.54138969_000001.jpg` and so on go.
    frames
        Files of every subject and camera, 0.1 s apart.
    side
        Pixels of an image's side; the real ones have about 1000.
    seed
        Of how subjects differ.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for subject in SUBJECTS:
        height, pace, turn = random.uniform((0.34, 0.8, 0.2), (0.4, 1.1, 0.3))
        colors = [tuple(int(level) for level in random.integers(60, 240, 3)) for _ in range(3)]
        start = random.uniform(0, 2 * np.pi, 2)
        for number, camera in enumerate(CAMERAS):
            for k in range(frames):
                # Every fifth of 50 frames a second.
                heading = start[0] + turn * 0.1 * k + number * np.pi / 2
                image = _draw_walker(side, height, heading, start[1] + 2 * np.pi * pace * 0.1 * k, colors)
                image.save(folder / f"{subject}_Walking.{camera}_{1 + 5 * k:06d}.jpg", quality=90)


def _draw_walker(side: int, height: float, heading: float, phase: float, colors: list) -> Image.Image:
    """Draw a figure of a given share of the image, its gait at `phase`, seen from the direction `heading`."""
    image = Image.new("RGB", (side, side), (120, 112, 104))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0.68 * side, side, side), fill=(84, 72, 62))
    skin, shirt, trousers = colors

    def limb(start: np.ndarray, angles: tuple[float, ...], color: tuple, width: float) -> None:
        # Angles are from straight down; what swings forward is seen from the side only.
        for angle in angles:
            step = 0.24 * height * np.array([np.sin(angle) * np.cos(heading), np.cos(angle)])
            pen.line((*(side * start), *(side * (start + step))), fill=color, width=round(width * side))
            start = start + step
            radius = width / 2 * side
            pen.ellipse((*(side * start - radius), *(side * start + radius)), fill=color)

    place = np.array([0.5 + 0.13 * np.sin(heading), 0.47 + 0.006 * np.cos(2 * phase)])
    shoulder = place - (0, 0.32 * height)
    width = 0.07 * height
    for leg in (0.0, np.pi):
        swing, bend = 0.5 * np.sin(phase + leg), 0.7 * max(0.0, np.cos(phase + leg))
        limb(shoulder, (-swing, -swing + 0.4), skin, width)
        limb(place, (swing, swing - bend), trousers, 1.3 * width)
    pen.line((*(side * place), *(side * shoulder)), fill=shirt, width=round(2.4 * width * side))
    head = side * (shoulder - (0, 0.16 * height))
    radius = 0.1 * height * side
    pen.ellipse((*(head - radius), *(head + radius)), fill=skin)
    return image


def main(arguments: list[str] | None = None) -> int:
    """Write both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="Folder to write into.")
    folder = parser.parse_args(arguments).folder
    write_taxibj(folder / "taxibj")
    write_human36m(folder / "human36m")
    return 0


if __name__ == "__main__":
    sys.exit(main())
