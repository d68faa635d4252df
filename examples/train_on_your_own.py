"""Train a network on frames of your own, and forecast with it.

The frames here are made up: dye that a steady current carries away and that diffuses, on 32 x 32 pixels. Put
your own arrays in place of `drift` and the rest stays as it is; on voxels an array has one axis more. Takes
less than a minute:

    python examples/train_on_your_own.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy import units as u
from scipy.ndimage import gaussian_filter, shift

import mim3d
from mim3d.data import well
from mim3d.training import load_recipe, train

FRAMES = 8
PIXELS = 32
STEPS = 150


def drift(seed: int) -> np.ndarray:
    """Make frames `(FRAMES, PIXELS, PIXELS)` of dye that drifts by one pixel a frame and spreads."""
    random = np.random.default_rng(seed)
    dye = gaussian_filter(random.random((PIXELS, PIXELS)) ** 8, 2.0, mode="wrap") / 0.1
    frames = []
    for _ in range(FRAMES):
        frames.append(dye)
        dye = shift(dye, (0.8, 0.6), mode="grid-wrap")
        dye = gaussian_filter(dye, 0.4, mode="wrap")
    return np.array(frames, dtype=np.float32)


def as_run(frames: np.ndarray) -> mim3d.Trajectory:
    """Say what the numbers are: names, units, times, box."""
    return mim3d.Trajectory(
        fields={"dye": frames},
        units={"dye": u.mg / u.cm**3},
        times=0.5 * np.arange(len(frames)),
        time_unit=u.s,
        box_size=(4.0, 4.0),
        length_unit=u.cm,
        boundary="periodic",
    )


def main(folder: Path) -> None:
    """Write runs, train on them, forecast one that was not among them."""
    for seed in range(24):
        well.write(folder / "runs" / f"run_{seed:02d}.h5", as_run(drift(seed)), dataset_name="drift")

    # Every key of a recipe may be set; docs/training.md names them.
    recipe = load_recipe(
        "tiny",
        [
            f"--data.folder={folder / 'runs'}",
            "--data.fields=[dye]",
            "--data.static=[]",
            f"--data.frames={FRAMES}",
            "--data.input_length=2",
            "--data.symmetries=false",  # turned or mirrored, the current would flow another way
            f"--training.steps={STEPS}",
            "--training.validate_every=50",
        ],
    )
    weights = train(recipe, folder / "training")

    unseen = as_run(drift(1000))
    forecast = mim3d.load(weights).forecast(unseen, steps=FRAMES - 2)
    made, true = forecast.trajectory.fields["dye"], unseen.fields["dye"]
    seconds = (forecast.trajectory.times * forecast.trajectory.time_unit).to_value(u.s)
    for k, frame in enumerate(made):
        error = np.abs(frame - true[2 + k]).mean()
        persistence = np.abs(true[1] - true[2 + k]).mean()
        print(f"{seconds[k]:.1f} s: error {error:.3f} mg/cm^3, of persistence {persistence:.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
