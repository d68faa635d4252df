"""What is known about a data set: how it is cited, judged and opened."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from mim3d.data.download import PublicFile
from mim3d.data.sequences import Sequences
from mim3d.errors import UserError


@dataclass(frozen=True)
class Appearance:
    """How the frames of a data set are drawn; channels named red, green and blue always in their colours.

    Parameters
    ----------
    colormap
        Name of matplotlib's.
    label
        Of the legend; the channel's name where empty.
    levels, colors, below
        A legend in steps, as is the custom: values between which each colour stands, and the colour below
        them. Used where values are in `unit`.
    unit
        Of the levels.
    """

    colormap: str = "gray"
    label: str = ""
    levels: tuple[float, ...] = ()
    colors: tuple[str, ...] = ()
    below: str = "black"
    unit: str = ""


Constructor = Callable[..., Sequences]
"""Opens one split of a source, `(source, split, **options)`."""


@dataclass(frozen=True)
class DatasetCard:
    """A data set that can be opened by its name.

    Parameters
    ----------
    name
        By which it is asked for.
    summary
        One line.
    protocol
        What is given, what is forecast, and how it is divided and judged.
    terms
        Licence, or terms of use, of the data.
    citation
        What to cite.
    files
        What `source` is to be and how to get it.
    options
        The class that opens the data set, `(source, split, **options)`, and whose keyword arguments the
        options are.
    reader
        Where there are files of more than one kind: tells the class that opens a source.
    default_source
        What `source` is where it is not given; none where files are needed.
    generated
        Whether sequences are made rather than read, so that `make` can write them.
    public_files
        Files that anybody may download.
    appearance
        How its frames are drawn.
    """

    name: str
    summary: str
    protocol: str
    terms: str
    citation: str
    files: str
    options: Constructor
    reader: Callable[[Path], Constructor] | None = None
    default_source: str | None = None
    generated: bool = False
    public_files: tuple[PublicFile, ...] = ()
    appearance: Appearance = Appearance()

    def open(self, source: str | Path | None = None, split: str = "test", **options: Any) -> Sequences:
        """Open one split of the data set.

        Parameters
        ----------
        source
            See `files`.
        split
            `"train"`, `"validation"` or `"test"`.
        **options
            Of the data set, see its class.

        Raises
        ------
        UserError
            If files are needed and not there or not usable, or an option is not known.
        """
        source = source if source is not None else self.default_source
        if source is None:
            raise UserError(f"{self.name} needs its files (source). {self.files}")
        sequences = _construct(self._constructor(source), source, split, options)
        sequences.dataset = self.name
        return sequences

    def options_of(self, source: str | Path | None = None) -> dict[str, Any]:
        """Return the options that a source takes, and their defaults; files of a fixed length take few."""
        source = source if source is not None else self.default_source
        return keyword_options(self.options if source is None else self._constructor(source))

    def _constructor(self, source: str | Path) -> Constructor:
        return self.options if self.reader is None else self.reader(Path(source))


def _construct(
    constructor: Constructor, source: str | Path, split: str, options: dict[str, Any]
) -> Sequences:
    """Call the constructor of a data set with options that a user gave by name.

    Raises
    ------
    UserError
        If there is no such option, or its value has the wrong type.
    """
    known = keyword_options(constructor)
    for name, value in options.items():
        if name not in known:
            raise UserError(
                f"there is no option {name!r} for {source}; there are: {', '.join(known) or 'none'}"
            )
        _check_type(constructor, name, value)
    return constructor(source, split, **options)


def _check_type(constructor: Constructor, name: str, value: Any) -> None:
    """Check an option against the constructor's signature."""
    function = constructor.__init__ if isinstance(constructor, type) else constructor
    expected = get_type_hints(function)[name]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{name}", type=expected)
    try:
        parser.parse_object({name: value})
    except ArgumentError:
        kind = inspect.formatannotation(expected).replace("collections.abc.", "")
        raise UserError(f"option {name} is to be {kind}, found {value!r}") from None


def keyword_options(constructor: Constructor) -> dict[str, Any]:
    """Return the options of a data set and their defaults."""
    parameters = inspect.signature(constructor).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
