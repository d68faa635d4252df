"""Many independent pieces of work, on this machine's processes or on a Dask cluster."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mim3d.data.files import replacing
from mim3d.errors import UserError

SCHEDULER_TIMEOUT = "20s"

# Dask has its workers give freed memory back at once. The solver would then get every temporary array as
# fresh, zeroed pages, and spend two thirds of its time in the kernel.
KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

Job = TypeVar("Job")
Result = TypeVar("Result")


def claim_folder(
    folder: Path,
    record: str,
    settings: Mapping[str, Any],
    what: str,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Write down what the results of a folder depend on, or check that it holds results of the same settings.

    Parameters
    ----------
    folder
        Made if it is not there.
    record
        Name of the JSON file with the settings.
    settings
        All that results depend on.
    what
        What the folder would hold if it is not this, for the error: another campaign, other forecasts.
    defaults
        What settings were that an older record does not name.

    Raises
    ------
    UserError
        If it holds results of other settings, or cannot be read or written.
    """
    recorded = folder / record
    described, before = (json.loads(json.dumps(values)) for values in (settings, dict(defaults or {})))
    if recorded.exists():
        try:
            found = json.loads(recorded.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{recorded} cannot be read: {error}") from error
        differing = sorted(key for key in described if found.get(key, before.get(key)) != described[key])
        if differing:
            raise UserError(
                f"{folder} holds {what} (it differs in {', '.join(differing)}); choose another output folder"
            )
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; a folder is needed")
    with replacing(recorded) as temporary:
        temporary.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


class _Speed(ProgressColumn):
    """Finished pieces a second."""

    def render(self, task: Task) -> Text:
        """Show it, once something is finished."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2g}/s" if speed else "")


def progress_bar(console: Console, unit: str) -> Progress:
    """Make a bar with count, elapsed time, time left and throughput, on stderr for those who watch."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        _Speed(),
        console=console,
        disable=not console.is_terminal,
    )


def run_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, scheduler: str | None = None
) -> Iterator[Result]:
    """Do pieces of work on Dask's workers, in any order; yields what has just been finished.

    A worker that dies is replaced, and what it had is done again by another.

    Parameters
    ----------
    function
        What to do with a job; it must not matter if it is done twice.
    jobs
        Arguments of the function.
    workers
        Processes on this machine, of one thread each.
    scheduler
        Address of a Dask scheduler (`tcp://host:port`) whose workers are used instead.

    Raises
    ------
    UserError
        If the scheduler does not answer.
    """
    from distributed import as_completed

    with _dask_client(workers, scheduler) as client:
        futures = [client.submit(function, job, pure=False, retries=2) for job in jobs]
        for future in as_completed(futures):
            yield future.result()


@contextmanager
def _dask_client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """Connect to the given scheduler, or to one-thread processes on this machine."""
    import dask.config
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=SCHEDULER_TIMEOUT)
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        with client:
            yield client
        return
    with (
        dask.config.set(
            {
                "distributed.worker.memory.terminate": False,
                "distributed.admin.tick.limit": "1h",
                "distributed.nanny.pre-spawn-environ": KEEP_MEMORY,
            }
        ),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
