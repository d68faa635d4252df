"""The history of a run as a table that survives being killed and resumed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger

from mim3d.data.files import replacing

COLUMNS: tuple[str, ...] = (
    "step",
    "loss",
    "learning_rate",
    "keep_probability",
    "val_score",
    "val_loss",
    "val_ratio",
    "val_midplane_error",
    "val_midplane_persistence",
    "val_midplane_ratio",
    "val_affected_iou",
    "val_frame_mse",
    "val_frame_mse_persistence",
)


class HistoryTable(Logger):
    """Writes `metrics.csv`, a row whenever something is logged.

    Lightning's own CSV logger deletes the table of a folder that it finds; this one keeps the rows up to the
    step that is resumed from and goes on.

    Parameters
    ----------
    path
        The file.
    resumed
        Step from which the run goes on; rows of later steps, which will be taken again, are dropped.
    """

    def __init__(self, path: Path, resumed: int = 0) -> None:
        super().__init__()
        self.path = path
        self.resumed = resumed
        self._started = False

    @property
    def name(self) -> str:
        """Name of the table."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is but one."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write one row."""
        if not self._started:
            self._start()
        row: dict[str, Any] = {name: value for name, value in metrics.items() if name in COLUMNS}
        if row:
            row["step"] = step or 0
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS, restval="").writerow(row)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the recipe lies beside the table."""

    def _start(self) -> None:
        rows: list[dict[str, str]] = []
        if self.resumed and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= self.resumed]
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        self._started = True
