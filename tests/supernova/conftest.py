"""Gas in other units, for the tests of what starts from a trajectory."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from astropy import units as u

from mim3d.fields import Trajectory


@pytest.fixture(scope="session")
def in_cgs() -> Callable[[Trajectory], Trajectory]:
    """Turn gas in Msun, pc and km/s, in a box whose corner is the origin, into g, cm and s."""

    def convert(gas: Trajectory) -> Trajectory:
        return replace(
            gas,
            fields={
                "density": gas.fields["density"] * (1 * u.Msun / u.pc**3).to_value(u.g / u.cm**3),
                "temperature": gas.fields["temperature"],
                "velocity": gas.fields["velocity"] * 1e5,
            },
            units={"density": u.g / u.cm**3, "temperature": u.K, "velocity": u.cm / u.s},
            box_size=tuple(side * 3.0856775814913674e18 for side in gas.box_size),
            length_unit=u.cm,
        )

    return convert
