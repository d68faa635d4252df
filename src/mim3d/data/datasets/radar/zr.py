"""Radar reflectivity and rain rate, related by a power law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mim3d.errors import UserError


@dataclass(frozen=True)
class ZRRelation:
    """Z = a R^b between reflectivity factor Z [mm^6/m^3] and rain rate R [mm/h].

    Parameters
    ----------
    a, b
        200 and 1.6 (Marshall & Palmer) by default. FMI uses 223 and 1.53, HKO-7 58.53 and 1.56.

    Raises
    ------
    UserError
        If one of them is not > 0.

    References
    ----------
    Marshall & Palmer 1948, J. Meteor. 5, 165; Marshall, Hitschfeld & Gunn 1955, Adv. Geophys. 2, 1.
    """

    a: float = 200.0
    b: float = 1.6

    def __post_init__(self) -> None:
        """Check the constants."""
        if not (0 < self.a < np.inf and 0 < self.b < np.inf):
            raise UserError(f"a and b of the Z-R relation Z = a R^b must be > 0, found {self.a} and {self.b}")

    def reflectivity(self, rain_rate: np.ndarray) -> np.ndarray:
        """Return the reflectivity [dBZ] of a rain rate [mm/h]; minus infinity where there is no rain."""
        with np.errstate(divide="ignore"):
            return 10 * (np.log10(self.a) + self.b * np.log10(rain_rate))

    def rain_rate(self, reflectivity: np.ndarray) -> np.ndarray:
        """Return the rain rate [mm/h] of a reflectivity [dBZ]; 0 where there is no echo (minus infinity)."""
        return (10 ** (reflectivity / 10) / self.a) ** (1 / self.b)
