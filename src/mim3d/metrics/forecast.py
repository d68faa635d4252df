"""All scores of a forecast of a supernova's gas, with persistence beside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.metrics.affected import AffectedOverlap
from mim3d.metrics.density import MidPlaneLogDensityError, VolumeLogDensityError, site_voxel
from mim3d.metrics.vrmse import VRMSE


class ForecastScores:
    """Scores of forecasts against simulations, per lead time, each beside persistence (nothing changes).

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
        self.num_samples = 0
        self._overlap = AffectedOverlap.start(num_frames)
        self._mid_plane = {who: MidPlaneLogDensityError.start(num_frames) for who in _WHO}
        self._volume = {who: VolumeLogDensityError.start(num_frames) for who in _WHO}
        self._vrmse = {who: {channel: VRMSE.start(num_frames) for channel in self.channels} for who in _WHO}

    @classmethod
    def start(cls, num_frames: int, channels: Iterable[str] = ("density",)) -> Self:
        """Return scores that have seen no sample."""
        return cls(num_frames, channels)

    def accumulate(
        self,
        forecast: Trajectory,
        simulation: Trajectory,
        initial: Trajectory,
        affected_forecast: np.ndarray | None = None,
        affected_simulation: np.ndarray | None = None,
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
        """
        if len(forecast) > self.num_frames:
            raise UserError(f"{len(forecast)} frames to score, the scores were started for {self.num_frames}")
        site = site_voxel(simulation.site, simulation.origin, simulation.box_size, simulation.grid)
        for channel in self.channels:
            truth = _channel(simulation, channel)
            kept = np.broadcast_to(_channel(initial, channel)[-1], truth.shape)
            for who, values in (("forecast", _channel(forecast, channel)), ("persistence", kept)):
                self._vrmse[who][channel].accumulate(values, truth)
                if channel == "density":
                    self._mid_plane[who].accumulate(values, truth, site)
                    self._volume[who].accumulate(values, truth)
        if affected_forecast is not None and affected_simulation is not None:
            self._overlap.accumulate(affected_forecast, affected_simulation)
        self.num_samples += 1

    def merge(self, other: Self) -> Self:
        """Return the scores of the samples of both."""
        if (self.num_frames, self.channels) != (other.num_frames, other.channels):
            raise UserError("cannot merge scores of different lead times or channels")
        merged = type(self).start(self.num_frames, self.channels)
        merged.num_samples = self.num_samples + other.num_samples
        merged._overlap = self._overlap.merge(other._overlap)
        for who in _WHO:
            merged._mid_plane[who] = self._mid_plane[who].merge(other._mid_plane[who])
            merged._volume[who] = self._volume[who].merge(other._volume[who])
            for channel in self.channels:
                merged._vrmse[who][channel] = self._vrmse[who][channel].merge(other._vrmse[who][channel])
        return merged

    def compute(self) -> dict[str, np.ndarray]:
        """Return every score by name, each `(num_frames,)`.

        Names are `mid_plane_error` and `volume_error` [dex], `vrmse_<channel>`, each also with
        `persistence_` in front, and `iou`, `recall`, `precision` of the affected gas.
        """
        scores: dict[str, np.ndarray] = {}
        for who, prefix in _WHO.items():
            scores[f"{prefix}mid_plane_error"] = self._mid_plane[who].compute()
            scores[f"{prefix}volume_error"] = self._volume[who].compute()
            for channel in self.channels:
                scores[f"{prefix}vrmse_{channel}"] = self._vrmse[who][channel].compute()
        return scores | self._overlap.compute()._asdict()


_WHO = {"forecast": "", "persistence": "persistence_"}


def _channel(trajectory: Trajectory, channel: str) -> np.ndarray:
    """Return one channel `(T, *space)`: a scalar field, or a component such as `velocity_x`."""
    if channel in trajectory.fields:
        return np.asarray(trajectory.fields[channel])
    name, _, axis = channel.rpartition("_")
    if name in trajectory.fields and axis in ("x", "y", "z") and trajectory.is_vector(name):
        return np.asarray(trajectory.fields[name])[..., "xyz".index(axis)]
    raise UserError(f"no channel {channel!r} here; there are: {', '.join(trajectory.fields)}")
