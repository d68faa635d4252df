"""Draw the gallery: `docs/gallery.md` and every picture on it.

    python docs/make_gallery.py        # what comes along with mim3d
    python docs/make_gallery.py --models runs/ --data radar=storm.npz --credit "radar=NOAA, MRMS"
    python docs/make_gallery.py --models runs/ --data taxibj=TaxiBJ/ --only taxibj

Of data sets whose files cannot be had, `docs/made_up_data.py` writes some in their format.

A model of the data set NAME is `NAME.safetensors` or `NAME/model.safetensors` in the folder of the models,
or else the bundled one. The sequence is the first of the test part; where most show little, it is the one of
32 spread over the test part whose true frames change most. What has no model or no data is left out, and
said; its section stays as it was.

Every picture is made by the command of `mim3d` that stands beneath it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageSequence

from mim3d import checkpoint as checkpoints
from mim3d.checkpoint import Checkpoint, bundled_models
from mim3d.cli import main as mim3d
from mim3d.data.sequences import Sequences
from mim3d.errors import UserError
from mim3d.forecasting import dataset_model
from mim3d.report.images import open_as_trained
from mim3d.training import load_recipe, packaged_recipes

MOST_BYTES = 400_000
"""Of a GIF; larger ones are drawn with fewer colours, then smaller."""

_PROBES = 32
_HEAD = """\
# Gallery

A forecast of each data set that there is a model for: input, truth and forecast as an animation, and the same
frames as a strip. What is made up says so. Beneath each stands the command that drew it.
`python docs/make_gallery.py` draws and writes all of this page.
"""


@dataclass(frozen=True)
class Section:
    """What the gallery says of a data set.

    Parameters
    ----------
    name
        Of the data set, or `supernova`.
    title, text
        Of the section.
    lively
        Show the sequence whose true frames change most, not the first.
    """

    name: str
    title: str
    text: str
    lively: bool = False


SECTIONS = (
    Section("supernova", "Supernova in a turbulent cloud", "The density on slices of a box of 60 pc a side."),
    Section("moving-mnist", "Moving MNIST", "Two handwritten digits that bounce and cross."),
    Section("color-moving-mnist", "Colour-changing Moving MNIST", "Colours change steadily as digits move."),
    Section("moving-fashion-mnist", "Moving Fashion-MNIST", "Clothes in place of digits."),
    Section("moving-mnist-3d", "3-D Moving MNIST", "Digits with depth in a box, the maximum along one axis."),
    Section("taxibj", "TaxiBJ", "Taxis that enter and leave the parts of a city.", lively=True),
    Section("radar", "Radar echoes", "Rain and hail as a weather radar sees them.", lively=True),
    Section("human36m", "Human3.6M", "People who walk."),
    Section("folder", "Your own recordings", "Arrays or images, and [a `dataset.yaml`](data/folder.md)."),
)


def main(arguments: list[str] | None = None) -> int:
    """Draw what can be drawn, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [section.name for section in SECTIONS]
    parser.add_argument("--models", type=Path, help="Folder of checkpoints, by the names of their data sets.")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="Files of a data set; may be repeated.",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME.KEY=VALUE",
        help="Option of a data set in place of the model's, such as radar.tile=128; may be repeated.",
    )
    parser.add_argument(
        "--credit",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="Whose data these are; may be repeated.",
    )
    parser.add_argument("--only", action="append", choices=names, help="Only this data set; may be repeated.")
    parser.add_argument("--docs", type=Path, default=Path(__file__).parent, help="Folder of gallery.md.")
    options = parser.parse_args(arguments)
    data, credits, wishes = _pairs(options.data), _pairs(options.credit), _wishes(options.option)
    if unknown := sorted({*data, *credits, *wishes} - {*names}):
        parser.error(f"there is no data set {unknown[0]!r}; there are: {', '.join(names)}")
    pictures = options.docs / "images" / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    page = options.docs / "gallery.md"
    texts = _sections_of(page)
    for section in SECTIONS:
        if options.only and section.name not in options.only:
            continue
        try:
            if section.name == "supernova":
                texts[section.title] = _draw_supernova(section, options.docs / "images")
            else:
                texts[section.title] = _draw(
                    section,
                    options.models,
                    data.get(section.name),
                    wishes.get(section.name, {}),
                    credits.get(section.name),
                    pictures,
                )
        except UserError as error:
            print(f"{section.name}: left out: {error}")
            continue
        print(f"{section.name}: drawn")
    known = [texts[section.title] for section in SECTIONS if section.title in texts]
    page.write_text("\n".join([_HEAD, *known]), encoding="utf-8")
    return 0


def _sections_of(page: Path) -> dict[str, str]:
    """Return the sections of the page as it is, by title."""
    if not page.is_file():
        return {}
    _, *texts = page.read_text(encoding="utf-8").split("\n## ")
    return {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in texts}


def _draw_supernova(section: Section, images: Path) -> str:
    """Draw what the README shows, too."""
    command = ["forecast"]
    with _made_by(command) as (folder, lines):
        _place_gif(folder / "forecast.gif", images / "forecast.gif")
        shutil.copyfile(folder / "summary.png", images / "summary.png")
    model = next(line.split()[1] for line in lines if line.startswith("model "))
    said = f"The bundled cloud, which {_named(model)} was not trained on."
    return _text(section, said, "forecast.gif", "summary.png", command)


def _named(model: str) -> str:
    """Name a bundled model, with its card."""
    return f"the bundled model [`{model}`](../src/mim3d/models/{model}.md)"


def _draw(
    section: Section,
    models: Path | None,
    data: str | None,
    wishes: dict[str, Any],
    credit: str | None,
    pictures: Path,
) -> str:
    name = section.name
    path, is_bundled = _model(name, models)
    checkpoint = checkpoints.read(path)
    number = _liveliest(open_as_trained(checkpoint, name, data, **wishes)) if section.lively else 0
    command = ["forecast", "--dataset", name]
    shown = list(command)
    if data is not None:
        command += ["--data", data]
        shown += ["--data", Path(data).name]
    if not is_bundled:
        command += ["--model", str(path)]
        shown += ["--model", f"runs/{name}/model.safetensors"]
    tail = ["--run", str(number)] if number else []
    if wishes:
        tail += ["--options", *(f"{key}={_yaml(value)}" for key, value in wishes.items())]
    with _made_by(command + tail) as (folder, lines):
        _place_gif(folder / f"sequence_{number}.gif", pictures / f"{name}.gif")
        shutil.copyfile(folder / f"sequence_{number}.png", pictures / f"{name}.png")
        score = next(line for line in lines if "squared error summed" in line)
    said = f"Sequence {score}. {_origin(path, checkpoint, is_bundled)}"
    if credit:
        said += f" Data: {credit}."
    return _text(section, said, f"gallery/{name}.gif", f"gallery/{name}.png", shown + tail)


def _text(section: Section, said: str, gif: str, png: str, command: list[str]) -> str:
    return "\n".join(
        [
            f"## {section.title}",
            "",
            f"{section.text} {said}",
            "",
            f"![{section.title}: input, truth and forecast over time](images/{gif})",
            "",
            f"![{section.title}: frames side by side](images/{png})",
            "",
            "```bash",
            f"mim3d {shlex.join(command)}",
            "```",
            "",
        ]
    )


def _model(name: str, models: Path | None) -> tuple[Path, bool]:
    """Return where the model of a data set is, and whether it is a bundled one."""
    candidates = (
        [] if models is None else [models / f"{name}.safetensors", models / name / "model.safetensors"]
    )
    for path in candidates:
        if path.is_file():
            trained_on = checkpoints.read(path).dataset.get("name")
            if trained_on != name:
                raise UserError(f"{path} was trained on {trained_on or 'no data set of images'}")
            return path, False
    bundled = {path.stem: path for path in bundled_models()}
    return bundled[dataset_model(name)], True


def _pairs(given: list[str]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in given)


def _wishes(given: list[str]) -> dict[str, dict[str, Any]]:
    """Return options by data set."""
    wishes: dict[str, dict[str, Any]] = {}
    for entry in given:
        where, _, value = entry.partition("=")
        name, _, key = where.partition(".")
        wishes.setdefault(name, {})[key] = yaml.safe_load(value)
    return wishes


def _origin(path: Path, checkpoint: Checkpoint, is_bundled: bool) -> str:
    """Say which model it is and how it was trained."""
    what = f"Forecast by {_named(path.stem) if is_bundled else 'a model'}"
    network = checkpoint.provenance.get("recipe", {}).get("network", {})
    known = {name: load_recipe(name) for name in packaged_recipes()}
    same = [
        name
        for name, recipe in known.items()
        if recipe.data.dataset == checkpoint.dataset.get("name")
        and (recipe.network.name, recipe.network.settings) == (network.get("name"), network.get("settings"))
    ]
    how = f"the recipe `{same[0]}`" if same else f"a recipe of its own, network `{checkpoint.network}`"
    steps = checkpoint.provenance.get("step")
    return f"{what}, trained with {how}" + (f", {steps} steps." if steps else ".")


def _liveliest(sequences: Sequences) -> int:
    """Return the sequence whose true frames change most."""
    probes = np.unique(np.linspace(0, len(sequences) - 1, min(_PROBES, len(sequences))).astype(int))
    changes = [
        float(
            (sequences[int(k)][sequences.input_length :] - sequences[int(k)][sequences.input_length - 1])
            .abs()
            .mean()
        )
        for k in probes
    ]
    return int(probes[int(np.argmax(changes))])


@contextlib.contextmanager
def _made_by(command: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Run a command of mim3d; give the folder that it wrote and the lines that it printed."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "made"
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            code = mim3d([*command, "--output", str(folder)])
        if code != 0:
            raise UserError(errors.getvalue().strip().removeprefix("mim3d: error: "))
        yield folder, printed.getvalue().splitlines()


def _place_gif(source: Path, target: Path) -> None:
    """Copy a GIF, with as many colours and pixels as the limit allows."""
    shutil.copyfile(source, target)
    for colors, scale in ((128, 1.0), (64, 1.0), (64, 0.8), (64, 0.65), (32, 0.5)):
        if target.stat().st_size <= MOST_BYTES:
            return
        _save_reduced(source, target, colors, scale)
    if target.stat().st_size > MOST_BYTES:
        target.unlink()
        raise UserError(f"the animation does not get below {MOST_BYTES // 1000} kB")


def _save_reduced(source: Path, target: Path, colors: int, scale: float) -> None:
    with Image.open(source) as film:
        size = (round(scale * film.width), round(scale * film.height))
        durations = []
        frames = []
        for frame in ImageSequence.Iterator(film):
            durations.append(frame.info["duration"])
            frames.append(frame.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    # One palette of the last frame, which shows all that moves, so that nothing flickers.
    palette = frames[-1].quantize(colors=colors)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    first.save(target, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    sys.exit(main())
