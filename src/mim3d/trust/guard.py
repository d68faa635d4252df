"""Whether gas is like that which a network was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.trust.gas import QUANTITIES, GasDescription, describe_gas

EXPECTED = 0.975
"""Share of validation clouds that the limits are set for, so that clearly less than 5 % are flagged."""

_FEATURES = "features"
"""Name of the check of all features together; the others are named as the quantities."""

_RANGE = (0.005, 0.995)
_MARGIN = 0.05


_BAD = 2.0
_ORDINARY = 0.95


def bad_forecasts(errors: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
    """Tell which errors `(N,)` are above twice the 95th percentile of those of ordinary clouds."""
    return np.asarray(errors) > _BAD * np.nanquantile(ordinary, _ORDINARY)


@dataclass(frozen=True)
class Verdict:
    """What a guard says of one input.

    Parameters
    ----------
    is_inside
        Whether the gas is inside of the training range.
    score
        The worst of all checks; inside up to 1.
    reasons
        Why it is not inside, one sentence each, the worst first.
    """

    is_inside: bool
    score: float
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in a line."""
        if self.is_inside:
            return "inside the training range"
        return f"OUTSIDE the training range: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Guard:
    """Ranges of simple quantities, and a distance in features of the gas around the site.

    Parameters
    ----------
    ranges
        Lowest and highest value of each of `QUANTITIES` in training.
    features
        Names of the features.
    mean, precision
        Of the features in training: their mean `(F,)`, and the inverse of their covariance `(F, F)`.
    largest_distance
        Mahalanobis distance that validation clouds keep below.
    limits
        By check, the score above which gas is outside; 1 where not given.
    fields
        Fields that the features are of.
    clouds
        How many clouds it was fitted to, and with how many validation clouds its limits were set.
    """

    ranges: Mapping[str, tuple[float, float]]
    features: tuple[str, ...]
    mean: np.ndarray
    precision: np.ndarray
    largest_distance: float
    limits: Mapping[str, float]
    fields: tuple[str, ...]
    clouds: tuple[int, int]

    @classmethod
    def fit(
        cls,
        training: Sequence[GasDescription],
        validation: Sequence[GasDescription],
        fields: Sequence[str],
    ) -> Self:
        """Learn what the training's gas is like, and set limits that nearly all validation clouds keep.

        Parameters
        ----------
        training, validation
            Clouds as `describe_gas` describes them; without validation clouds the training's set the limits.
        fields
            What `describe_gas` was told.

        Raises
        ------
        UserError
            If there are no training clouds.
        """
        if not training:
            raise UserError("there are no clouds to fit a guard to")
        known = [name for name in QUANTITIES if all(name in cloud.quantities for cloud in training)]
        ranges = {}
        for name in known:
            low, high = np.quantile([cloud.quantities[name] for cloud in training], _RANGE)
            ranges[name] = (float(low), float(high))
        names = tuple(
            name for name in training[0].features if all(name in cloud.features for cloud in training)
        )
        values = np.array([[cloud.features[name] for name in names] for cloud in training])
        covariance = np.atleast_2d(np.cov(values, rowvar=False)) if len(values) > 1 else np.eye(len(names))
        # With few clouds the correlations are mostly chance; a feature that never varies has no scale.
        shrinkage = len(names) / (len(names) + len(values))
        covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance))
        covariance += 1e-4 * np.eye(len(names))
        guard = cls(
            ranges=ranges,
            features=names,
            mean=values.mean(axis=0),
            precision=np.linalg.inv(covariance),
            largest_distance=1.0,
            limits={},
            fields=tuple(fields),
            clouds=(len(training), len(validation)),
        )
        judges = validation or training
        distances = [guard.distance(cloud) for cloud in judges]
        guard = replace(guard, largest_distance=max(1.0, float(np.quantile(distances, EXPECTED))))
        scores: dict[str, list[float]] = {}
        for cloud in judges:
            for name, score, _ in guard._checks(cloud):
                scores.setdefault(name, []).append(score)
        # Each check has its own: one that varies wildly must not make the others lenient.
        limits = {name: float(np.quantile(own, EXPECTED, method="higher")) for name, own in scores.items()}
        return replace(guard, limits={name: limit for name, limit in limits.items() if limit > 1})

    def distance(self, cloud: GasDescription) -> float:
        """Return the Mahalanobis distance of a cloud's features, over the square root of their number."""
        missing = [name for name in self.features if name not in cloud.features]
        if missing:
            raise UserError(f"the gas has no {missing[0]!r}, which the model's guard needs")
        difference = np.array([cloud.features[name] for name in self.features]) - self.mean
        return float(np.sqrt(difference @ self.precision @ difference / len(self.features)))

    def check(self, trajectory: Trajectory) -> Verdict | None:
        """Judge the gas of a trajectory's last frame; None where it is no gas that can be described."""
        cloud = describe_gas(trajectory, self.fields)
        if cloud is None:
            return None
        checks = [(score / self.limits.get(name, 1.0), reason) for name, score, reason in self._checks(cloud)]
        failed = sorted((check for check in checks if check[0] > 1), reverse=True)
        worst = max(score for score, _ in checks)
        return Verdict(not failed, worst, tuple(reason for _, reason in failed))

    def _checks(self, cloud: GasDescription) -> list[tuple[str, float, str]]:
        """Every check's name and score, up to 1 inside, with what to say if it is outside."""
        checks = []
        for name, (low, high) in self.ranges.items():
            if name not in cloud.quantities:
                continue
            unit, is_logarithmic, tolerance = QUANTITIES[name]
            place = np.array([low, high, cloud.quantities[name]])
            bottom, top, value = np.log10(place) if is_logarithmic else place
            half = 0.5 * (top - bottom) * (1 + 2 * _MARGIN) + tolerance
            score = abs(value - 0.5 * (bottom + top)) / half
            known = " to ".join(dict.fromkeys((f"{low:.3g}", f"{high:.3g}")))
            text = f"{name} {cloud.quantities[name]:.3g}, trained on {known}"
            checks.append((name, float(score), f"{text} {unit}".rstrip()))
        distance = self.distance(cloud) / self.largest_distance
        reason = f"the gas around the site is {distance:.1f} times as unusual as in training"
        return [*checks, (_FEATURES, distance, reason)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, for JSON."""
        return {
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "features": list(self.features),
            "mean": [float(f"{value:.7g}") for value in self.mean],
            "precision": [[float(f"{value:.7g}") for value in row] for row in self.precision],
            "largest_distance": self.largest_distance,
            "limits": dict(self.limits),
            "fields": list(self.fields),
            "clouds": list(self.clouds),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`.

        Raises
        ------
        UserError
            If an entry is missing or unusable.
        """
        try:
            training, validation = values["clouds"]
            return cls(
                ranges={name: (float(low), float(high)) for name, (low, high) in values["ranges"].items()},
                features=tuple(values["features"]),
                mean=np.array(values["mean"], dtype=np.float64),
                precision=np.array(values["precision"], dtype=np.float64),
                largest_distance=float(values["largest_distance"]),
                limits={name: float(limit) for name, limit in values["limits"].items()},
                fields=tuple(values["fields"]),
                clouds=(int(training), int(validation)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"the model's guard is damaged: {error}") from error
