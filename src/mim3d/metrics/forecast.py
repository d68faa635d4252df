"""All scores of a forecast of a supernova's gas, with persistence and turbulent drift beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

import numpy as np

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.metrics.affected import AffectedOverlap
from mim3d.metrics.density import MidPlaneLogDensityError, VolumeLogDensityError, site_voxel
from mim3d.metrics.remnant import remnant_scores
from mim3d.metrics.threshold import RecallCurve
from mim3d.metrics.vrmse import VRMSE
from mim3d.supernova.shell import depleted_mask

SAFE_RECALL = 0.99
"""Recall of affected gas whose price, in precision, is told."""

ROLLOUT_WINDOWS = ((6, 12), (13, 30))
"""First and last step of the windows that The Well averages the VRMSE of rollouts over (arXiv 2412.00568)."""

DEVIATION = "_deviation"
"""Ending of scores with a sign, forecast over truth - 1; `compute` gives `_error` and `_bias` for them."""


class Spread(NamedTuple):
    """Where two thirds of the runs lie: from the 16th to the 84th percentile, `(num_frames,)` each."""

    low: np.ndarray
    high: np.ndarray


class ForecastScores:
    """Scores of forecasts against simulations, per lead time and run.

    Beside the forecast stand persistence (nothing changes) and drift: how far the same gas without the
    explosion goes from its start. Drift is the floor for a forecast that sees density alone.

    Parameters
    ----------
    num_frames
        Lead times that are scored.
    channels
        Channels whose VRMSE is wanted, such as `("density", "velocity_x")`.
    """

    def __init__(self, num_frames: int, channels: Iterable[str] = ("density",)) -> None:
        self.num_frames = num_frames
        self.channels = tuple(channels)
        self._runs: list[dict[str, np.ndarray]] = []
        self._overlap = AffectedOverlap.start(num_frames)
        self._depleted = AffectedOverlap.start(num_frames)
        self._recall = RecallCurve.start(num_frames)

    @classmethod
    def start(cls, num_frames: int, channels: Iterable[str] = ("density",)) -> Self:
        """Return scores that have seen no sample."""
        return cls(num_frames, channels)

    @property
    def num_samples(self) -> int:
        """How many runs were scored."""
        return len(self._runs)

    def accumulate(
        self,
        forecast: Trajectory,
        simulation: Trajectory,
        initial: Trajectory,
        affected_forecast: np.ndarray | None = None,
        affected_simulation: np.ndarray | None = None,
        certainty: np.ndarray | None = None,
        one_step: Trajectory | None = None,
    ) -> None:
        """Add one run.

        Parameters
        ----------
        forecast, simulation
            The same T frames, densities in Msun/pc^3. Frames that were not simulated are NaN.
        initial
            The frames that the forecast started from; persistence keeps the last of them.
        affected_forecast, affected_simulation
            Affected gas `(T, *space)`, 0 or 1, NaN where not known; not scored where not given.
        certainty
            How sure the forecast is of it `(T, *space)`, 0 to 1, where it says so.
        one_step
            The same T frames, each forecast from the simulation's frames before it.
        """
        if len(forecast) > self.num_frames:
            raise UserError(f"{len(forecast)} frames to score, the scores were started for {self.num_frames}")
        length = len(forecast)
        site = site_voxel(simulation.site, simulation.origin, simulation.box_size, simulation.grid)
        scores: dict[str, np.ndarray] = {}
        for channel in self.channels:
            truth = simulation.channel(channel)
            for prefix, values in self._rivals(channel, forecast, initial, simulation.twin, truth.shape):
                if prefix != "drift_":
                    scores[f"{prefix}vrmse_{channel}"] = _vrmse(values, truth)
                if channel == "density":
                    reference = truth if prefix != "drift_" else initial.channel(channel)[-1]
                    reference = np.broadcast_to(reference, truth.shape)
                    mid_plane = MidPlaneLogDensityError.start(length)
                    mid_plane.accumulate(values, reference, site)
                    scores[f"{prefix}mid_plane_error"] = mid_plane.compute()
                    volume = VolumeLogDensityError.start(length)
                    volume.accumulate(values, reference)
                    scores[f"{prefix}volume_error"] = volume.compute()
            if one_step is not None:
                scores[f"one_step_vrmse_{channel}"] = _vrmse(one_step.channel(channel), truth)
        if "density" in self.channels:
            scores |= self._affected(
                forecast, simulation, initial, affected_forecast, affected_simulation, certainty
            )
            scores |= remnant_scores(forecast, simulation, initial)
        scores |= _ratios(scores)
        self._runs.append({name: _padded(values, self.num_frames) for name, values in scores.items()})

    def _rivals(
        self,
        channel: str,
        forecast: Trajectory,
        initial: Trajectory,
        twin: Trajectory | None,
        shape: tuple[int, ...],
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what stands in the truth's place, with the prefix of its scores."""
        yield "", forecast.channel(channel)
        yield "persistence_", np.broadcast_to(initial.channel(channel)[-1], shape)
        if channel == "density" and twin is not None:
            yield "drift_", twin.channel(channel)

    def _affected(
        self,
        forecast: Trajectory,
        simulation: Trajectory,
        initial: Trajectory,
        affected_forecast: np.ndarray | None,
        affected_simulation: np.ndarray | None,
        certainty: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        before = np.asarray(initial.fields["density"][-1])
        density = np.asarray(simulation.fields["density"])
        own = AffectedOverlap.start(self.num_frames)
        if affected_forecast is not None and affected_simulation is not None:
            own.accumulate(affected_forecast, affected_simulation, before)
            if certainty is not None:
                self._recall.accumulate(certainty, affected_simulation)
        depleted = AffectedOverlap.start(self.num_frames)
        depleted.accumulate(
            depleted_mask(np.asarray(forecast.fields["density"]), before).astype(np.float64),
            np.where(np.isnan(density), np.nan, depleted_mask(density, before)),
            before,
        )
        self._overlap = self._overlap.merge(own)
        self._depleted = self._depleted.merge(depleted)
        return own.compute()._asdict() | _prefixed("depleted_", depleted.compute()._asdict())

    def merge(self, other: Self) -> Self:
        """Return the scores of the samples of both."""
        if (self.num_frames, self.channels) != (other.num_frames, other.channels):
            raise UserError("cannot merge scores of different lead times or channels")
        merged = type(self).start(self.num_frames, self.channels)
        merged._runs = [*self._runs, *other._runs]
        merged._overlap = self._overlap.merge(other._overlap)
        merged._depleted = self._depleted.merge(other._depleted)
        merged._recall = self._recall.merge(other._recall)
        return merged

    def of_runs(self) -> dict[str, np.ndarray]:
        """Return every score of every run by name, each `(num_samples, num_frames)`; NaN where undefined."""
        unknown = np.full(self.num_frames, np.nan)
        names = dict.fromkeys(name for run in self._runs for name in run)
        return {name: np.stack([run.get(name, unknown) for run in self._runs]) for name in names}

    def compute(self) -> dict[str, np.ndarray]:
        """Return every score by name, each `(num_frames,)`; NaN where it is not defined.

        Means over runs; affected gas is counted over the voxels of all runs together, and ratios are ratios
        of the means.

        - `mid_plane_error`, `volume_error` [dex], also with `persistence_` and `drift_` in front, and as
          `mid_plane_ratio` (to persistence) and `mid_plane_drift_ratio`;
        - `iou`, `recall`, `precision`, `missed_mass` of the affected gas, and with `depleted_` in front by
          the papers' definition, density lower than at the start by more than 10 %;
        - `safe_threshold`, `safe_precision`: the threshold that finds 99 % of the affected gas, and the
          precision that is left;
        - `vrmse_<channel>` and their mean over a vector's components, also with `persistence_` and
          `one_step_` in front;
        - what `remnant_scores` gives, deviations as `_error` (mean size) and `_bias` (mean).
        """
        scores: dict[str, np.ndarray] = {}
        for name, values in self.of_runs().items():
            if name.endswith(DEVIATION):
                stem = name.removesuffix(DEVIATION)
                scores[f"{stem}_error"] = _mean(np.abs(values))
                scores[f"{stem}_bias"] = _mean(values)
            else:
                scores[name] = _mean(values)
        scores |= _ratios(scores) | _vector_means(scores)
        if "density" not in self.channels:
            return scores
        safe = self._recall.at_recall(SAFE_RECALL)
        return (
            scores
            | self._overlap.compute()._asdict()
            | _prefixed("depleted_", self._depleted.compute()._asdict())
            | {"safe_threshold": safe.threshold, "safe_precision": safe.precision}
        )

    def safe_threshold(self) -> tuple[float, float]:
        """Return one threshold for all lead times that finds 99 % of the affected gas, and its precision."""
        safe = self._recall.overall_at_recall(SAFE_RECALL)
        return float(safe.threshold[0]), float(safe.precision[0])

    def spread(self) -> dict[str, Spread]:
        """Return where two thirds of the runs lie, for every score of `compute` that a single run has."""
        spreads: dict[str, Spread] = {}
        runs = self.of_runs()
        runs |= _vector_means(runs)
        for name, values in runs.items():
            is_deviation = name.endswith(DEVIATION)
            stem = name.removesuffix(DEVIATION)
            if is_deviation:
                spreads[f"{stem}_bias"] = _percentiles(values)
            spreads[f"{stem}_error" if is_deviation else name] = _percentiles(
                np.abs(values) if is_deviation else values
            )
        return spreads

    def rollout_vrmse(self) -> dict[str, dict[str, float]]:
        """Return the VRMSE as The Well's tables give it: by field, for one step and windows of the rollout.

        Returns
        -------
        dict
            By field (or channel), then by `"one step"`, `"6-12"`, `"13-30"`. A window that goes beyond the
            last frame is named by the steps that there are, such as `"13-19"`; one without a step is left
            out.
        """
        scores = self.compute()
        tables: dict[str, dict[str, float]] = {}
        for name, values in scores.items():
            if not name.startswith("vrmse_"):
                continue
            table: dict[str, float] = {}
            if f"one_step_{name}" in scores:
                table["one step"] = float(_mean(scores[f"one_step_{name}"]))
            for first, last in ROLLOUT_WINDOWS:
                known = np.flatnonzero(np.isfinite(values[:last])) + 1
                if len(known) and known[-1] >= first:
                    table[f"{first}-{known[-1]}"] = float(_mean(values[first - 1 : last]))
            tables[name.removeprefix("vrmse_")] = table
        return tables


def _vrmse(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    score = VRMSE.start(len(truth))
    score.accumulate(values, truth)
    return score.compute()


def _ratios(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Errors over persistence's, and over the drift."""
    ratios = {}
    for stem in ("mid_plane", "volume"):
        for rival, name in (("persistence", f"{stem}_ratio"), ("drift", f"{stem}_drift_ratio")):
            reference = scores.get(f"{rival}_{stem}_error")
            if reference is not None:
                # Less than this is rounding: gas at rest does not drift.
                known = np.where(reference > 1e-5, reference, np.nan)
                ratios[name] = scores[f"{stem}_error"] / known
    return ratios


def _vector_means(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean over the components of vectors, as The Well averages over them."""
    means = {}
    for name in scores:
        stem = name.removesuffix("_x")
        if stem != name and "vrmse_" in name:
            means[stem] = np.mean(
                [scores[f"{stem}_{axis}"] for axis in "xyz" if f"{stem}_{axis}" in scores], 0
            )
    return means


def _prefixed(prefix: str, scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {prefix + name: values for name, values in scores.items()}


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(np.asarray(values, dtype=np.float64), (0, length - len(values)), constant_values=np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is known; NaN, without a warning, where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _percentiles(values: np.ndarray) -> Spread:
    result = np.full((2, values.shape[1]), np.nan)
    known = np.isfinite(values).any(axis=0)
    result[:, known] = np.nanpercentile(values[:, known], [16, 84], axis=0)
    return Spread(*result)
