"""What `mim3d data` does, as functions: what data sets there are, making them, and checking files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mim3d.data import original
from mim3d.data.datasets import DATASETS, card, idx, radar
from mim3d.data.datasets.card import keyword_options
from mim3d.data.datasets.folder import SETTINGS_FILE
from mim3d.data.datasets.moving_mnist import FILE_ENDS
from mim3d.data.download import fetch
from mim3d.data.sequences import Sequences
from mim3d.data.splits import SPLITS
from mim3d.errors import UserError

MOST_CHECKED = 200
"""Sequences that `check` reads of every split, spread evenly over it."""


def list_text() -> str:
    """Return a line for every data set."""
    width = max(map(len, DATASETS))
    return "\n".join(f"{name:<{width}}  {card.summary}" for name, card in DATASETS.items())


def describe_text(name: str) -> str:
    """Return the card of a data set as text.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    found = card(name)
    options = ", ".join(f"{key}={value!r}" for key, value in keyword_options(found.options).items())
    parts = {
        "protocol": found.protocol,
        "files": found.files,
        "options": options or "none",
        "download": ", ".join(file.url for file in found.public_files) or "nothing is public",
        "terms": found.terms,
        "citation": found.citation,
        "more": f"docs/data/{name}.md",
    }
    lines = [f"{found.name}: {found.summary}", ""]
    for key, text in parts.items():
        lines += textwrap.wrap(
            text,
            100,
            initial_indent=f"{key:<10}",
            subsequent_indent=" " * 10,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)


def download(
    name: str, output: str | Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Path]:
    """Download the public files of a data set, see `mim3d.data.download.fetch`.

    Parameters
    ----------
    name
        A data set of which anybody may download files.
    output
        Folder for the files; those that are there already are kept.
    progress
        Called with the numbers of bytes that are here and of all, file after file.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    UserError
        If there are none to download, or a server cannot be reached.
    """
    found = card(name)
    if not found.public_files:
        public = ", ".join(name for name, card in DATASETS.items() if card.public_files)
        raise UserError(
            f"{name} has no files that anybody may download (there are some of {public}). {found.files}"
        )
    return [fetch(file, output, progress) for file in found.public_files]


def make(
    name: str,
    output: str | Path,
    *,
    source: str | Path | None = None,
    splits: Sequence[str] = SPLITS,
    **options: Any,
) -> list[Path]:
    """Generate a data set to disk, as npz files that this and the original programs read.

    Parameters
    ----------
    name
        A data set that is generated.
    output
        Folder for `<name>-train.npz`, `-valid.npz` and `-test.npz`; what is there is replaced.
    source
        Where the digits come from, see the data set's card.
    splits
        Splits to make.
    **options
        Of the data set: `count`, `seed`, `speed` and so on.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UserError
        If the data set is not one that is generated, or an option is not usable.
    """
    found = card(name)
    if not found.generated:
        made = ", ".join(name for name, card in DATASETS.items() if card.generated)
        raise UserError(f"{name} is read from its files, not generated; generated are {made}")
    # All are opened before the first is written, so that a mistake leaves nothing half done.
    datasets = {split: found.open(source, split, **options) for split in splits}
    paths = []
    for split, dataset in datasets.items():
        path = Path(output) / f"{name}-{FILE_ENDS[split]}.npz"
        original.write(path, _Arrays(dataset), dataset.input_length)
        paths.append(path)
    return paths


class _Arrays(Sequence[np.ndarray]):
    """A data set as arrays, made one at a time as they are written."""

    def __init__(self, dataset: Sequences) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset.sequence(index)


@dataclass
class Report:
    """What was found in files of data.

    Attributes
    ----------
    path
        What was looked at.
    kind
        The data set that the files are of.
    lines
        What is in them.
    problems
        What is wrong with them; empty where all is well.
    """

    path: Path
    kind: str
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def text(self) -> str:
        """Return the report as text."""
        verdict = "usable" if self.ok else "NOT usable"
        return "\n".join(
            [f"{self.path}: {self.kind}, {verdict}"]
            + [f"  {line}" for line in self.lines]
            + [f"  problem: {problem}" for problem in self.problems]
        )


def kind_of(path: str | Path) -> str:
    """Tell which data set files are of, from their names and content.

    Returns
    -------
    str
        A name of `DATASETS`, or `"idx"` for one IDX file.

    Raises
    ------
    UserError
        If there is nothing, or nothing that is known.
    """
    path = Path(path)
    if path.is_dir():
        # From the most telling to the least.
        if (path / SETTINGS_FILE).is_file():
            return "folder"
        if any(path.glob("BJ*InOut.h5")):
            return "taxibj"
        if any(path.glob("*-images*idx3-ubyte*")):
            return "moving-mnist"
        for name, found in DATASETS.items():
            if found.generated and any((path / f"{name}-{end}.npz").is_file() for end in FILE_ENDS.values()):
                return name
        if any(path.glob("S*_*.*_??????.jp*g")) or (path / "test.txt").is_file():
            return "human36m"
        if (path / "dataset.npz").is_file():
            return "taxibj"
        if next(radar.files(path), None) is not None:
            return "radar"
        raise UserError(
            f"{path} is a folder of no known data set; for data of your own write {path / SETTINGS_FILE} "
            "(see docs/data/folder.md)"
        )
    if not path.is_file():
        raise UserError(f"no file or folder {path}")
    if "ubyte" in path.name:
        return "idx"
    if path.suffix in (".h5", ".hdf5") and path.name.startswith("BJ"):
        return "taxibj"
    if radar.kind(path) is not None:
        return "radar"
    if path.suffix == ".npz":
        from mim3d.data import npz

        return "taxibj" if "X_train" in npz.names(path) else "moving-mnist"
    if path.suffix == ".npy" or path.name.endswith(".npy.gz"):
        return "moving-mnist"
    raise UserError(f"{path} is of no known data set; there are: {', '.join(DATASETS)}")


def check(path: str | Path, **options: Any) -> Report:
    """Open files of data as a user of them would, read sequences of every split, and report.

    Parameters
    ----------
    path
        A file or a folder.
    **options
        Of the data set, for instance `protocol="openstl"` for Human3.6M.

    Returns
    -------
    Report
        What is there; what cannot be read is reported, not raised.

    Raises
    ------
    UserError
        If there is nothing, or nothing that is known.
    """
    path = Path(path)
    kind = kind_of(path)
    report = Report(path, kind)
    if kind == "idx":
        try:
            array = idx.read(path)
            report.lines.append(f"{array.dtype} {array.shape}, {array.min()} to {array.max()}")
        except (UserError, ValueError) as error:
            report.problems.append(str(error))
        return report
    if kind == "human36m" and (path / "test.txt").is_file():
        options = {"protocol": "openstl", **options}
    for split in ("test",) if path.name.endswith((".npy", ".npy.gz")) else SPLITS:
        _check_split(report, split, options)
    return report


def _check_split(report: Report, split: str, options: dict[str, Any]) -> None:
    try:
        dataset = card(report.kind).open(report.path, split, **options)
        numbers = np.unique(np.linspace(0, len(dataset) - 1, MOST_CHECKED).astype(int))
        lowest, highest, missing, pixels = np.inf, -np.inf, 0, 0
        for number in numbers:
            frames = dataset.sequence(int(number))
            known = ~np.isnan(frames)
            missing, pixels = missing + int((~known).sum()), pixels + frames.size
            if known.any():
                lowest = min(lowest, float(frames[known].min()))
                highest = max(highest, float(frames[known].max()))
    except UserError as error:
        # A file of one split has no others; a folder should have all.
        report.problems.append(f"{split}: {error}")
        return
    shape = " x ".join(map(str, dataset.grid))
    report.lines.append(
        f"{split}: {len(dataset)} sequences of {dataset.input_length} + "
        f"{dataset.num_frames - dataset.input_length} frames, {shape}, {', '.join(dataset.channels)}"
        f"{f' [{dataset.unit}]' if dataset.unit else ''}"
    )
    report.lines.append(
        f"{split}: values {lowest:.4g} to {highest:.4g} as the network sees them, "
        f"{100 * missing / pixels:.3g} % missing ({len(numbers)} sequences read)"
    )
