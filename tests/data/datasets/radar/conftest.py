"""Radar files of every public format, see `tests/radar_files.py`."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.radar_files import (
    moving_echo,
    times_of,
    write_archive,
    write_knmi,
    write_meteonet,
    write_mrms,
    write_npz,
    write_odim,
    write_pgm,
    write_sevir,
)


@pytest.fixture(scope="session")
def write() -> SimpleNamespace:
    """The writers."""
    return SimpleNamespace(
        knmi=write_knmi,
        odim=write_odim,
        pgm=write_pgm,
        sevir=write_sevir,
        mrms=write_mrms,
        meteonet=write_meteonet,
        npz=write_npz,
        archive=write_archive,
        times_of=times_of,
        moving_echo=moving_echo,
    )


@pytest.fixture(params=["knmi", "odim", "pgm", "mrms", "meteonet", "npz"])
def archive_kind(request: pytest.FixtureRequest) -> str:
    """Every format that holds reflectivity."""
    if request.param == "mrms":
        pytest.importorskip("eccodes")
    return request.param


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Write the moving echo, less some of its frames, as an npz of one's own."""

    def make(count: int = 40, without: tuple[int, ...] = ()) -> Path:
        kept = [row for row in range(count) if row not in without]
        return write_archive("npz", tmp_path / "archive", times_of(count)[kept], moving_echo(count)[kept])

    return make
