"""Channels that are not fields of a file but follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from astropy import units as u

from mim3d.errors import UserError
from mim3d.fields import Trajectory
from mim3d.supernova.drift import drift
from mim3d.supernova.resimulation import resimulate
from mim3d.supernova.shell import affected_mask
from mim3d.supernova.simulation import GAS_FIELDS

_SITE_REACH_PC = 30.0
SITE_REACH: u.Quantity = _SITE_REACH_PC * u.pc
"""Distance from the explosion's site at which its marker ends: beyond where a shell gets in 0.2 Myr."""

REFERENCE_ENERGY: u.Quantity = 1e51 * u.erg
"""Energy of an explosion where nothing says otherwise."""

MARKERS = ("site", "site_energy", "drift")
"""Names of the derived channels that are known before anything happens."""

NEEDED_BY_MARKER = {"drift": GAS_FIELDS}
"""Fields that a marker follows from; others need the box and the site alone."""

UNSEEN: dict[str, u.Quantity] = {"temperature": 100.0 * u.K, "velocity": 0.0 * u.km / u.s}
"""What a guide starts from where a network does not see a field of the gas."""

DERIVED = ("affected", *MARKERS)
"""Names of the derived channels."""


def affected(density: np.ndarray, twin_density: np.ndarray) -> np.ndarray:
    """Tell where gas is affected by the explosion: 1 there, 0 elsewhere (float32).

    The paper's definition, density lower by more than 10 % (arXiv 2302.00026), is meant against the gas
    before the explosion and so counts turbulent drift as well; against the twin it is the explosion's doing
    alone.
    """
    return affected_mask(density, twin_density).astype(np.float32)


def site_marker(
    grid: Sequence[int],
    box_size: Sequence[float],
    origin: Sequence[float],
    site: Sequence[float],
    reach: float = _SITE_REACH_PC,
) -> np.ndarray:
    """Mark where the star explodes: max(0, 1 - r / reach) on the voxels `(*space)`, float32.

    A cone, so that every voxel in reach knows how far it is from the site. All lengths in one unit [pc].
    """
    square = np.zeros(tuple(grid))
    for axis, (voxels, side, low, position) in enumerate(zip(grid, box_size, origin, site, strict=True)):
        centres = low + (np.arange(voxels) + 0.5) * side / voxels
        shape = [1] * len(grid)
        shape[axis] = voxels
        square = square + ((centres - position) ** 2).reshape(shape)
    return np.maximum(0.0, 1.0 - np.sqrt(square) / reach).astype(np.float32)


def energy_factor(energy_erg: float) -> float:
    """Return by what a site's marker is multiplied to carry the explosion's energy.

    1 + log10(E / 1e51 erg) / 2: 1 for a common supernova, 0.85 for half and 1.15 for twice its energy, 0 at
    1e49 erg.

    Raises
    ------
    UserError
        If the energy is not more than 1e49 erg, where the marker would vanish.
    """
    reference = float(REFERENCE_ENERGY.to_value(u.erg))  # pyright: ignore[reportArgumentType]
    factor = 1 + 0.5 * float(np.log10(energy_erg / reference)) if energy_erg > 0 else 0.0
    if not 0 < factor < np.inf:
        raise UserError(f"the energy of an explosion must be more than 1e49 erg here, found {energy_erg:g}")
    return factor


def explosion_energy(trajectory: Trajectory) -> float:
    """Energy of a run's explosion, its parameter `explosion_energy` [erg]; 1e51 where it says none."""
    energy: Any = u.Quantity(trajectory.parameters.get("explosion_energy", REFERENCE_ENERGY))
    # A file without units says it in erg.
    return float(energy.value if energy.unit == u.dimensionless_unscaled else energy.to_value(u.erg))


def static_marker(trajectory: Trajectory, name: str) -> np.ndarray:
    """Make a channel that is given and does not change.

    Parameters
    ----------
    trajectory
        Gas with its site; for `"site_energy"` also its parameter `explosion_energy`, 1e51 erg without; for
        `"drift"` with its `GAS_FIELDS`.
    name
        `"site"`, see `site_marker`; `"site_energy"`: the same times `energy_factor`, so that the energy may
        be any value; `"drift"`: how the density changes if nothing explodes, see `drift`.

    Returns
    -------
    numpy.ndarray
        `(*space)` float32.

    Raises
    ------
    UserError
        If the box has no length, or there is no such channel.
    """
    if name not in MARKERS:
        raise UserError(f"no way to make the static channel {name!r}")
    if name == "drift":
        return drift(trajectory)
    try:
        reach: Any = SITE_REACH.to_value(trajectory.length_unit)
    except u.UnitConversionError as error:
        raise UserError(
            f"the channel {name!r} reaches {SITE_REACH}, the box is measured in {trajectory.length_unit}"
        ) from error
    marker = site_marker(
        trajectory.grid, trajectory.box_size, trajectory.origin, trajectory.site, float(reach)
    )
    if name == "site":
        return marker
    return marker * np.float32(energy_factor(explosion_energy(trajectory)))


def guide(
    trajectory: Trajectory,
    times_myr: Sequence[float],
    names: Sequence[str],
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Simulate what is to be forecast on the voxels of the input: a guide, to be corrected by a network.

    Parameters
    ----------
    trajectory
        What the network sees of the gas, its site and, where it says one, its parameter `explosion_energy`;
        its last frame counts. Where it has no temperature or velocity the gas is taken for cold (100 K) and
        at rest.
    times_myr
        Times of the frames after the last one [Myr].
    names
        Of `density`, `temperature`, `velocity` and `affected`.
    device
        Where to compute.

    Returns
    -------
    numpy.ndarray
        `(T, C, *space)` float32, in the trajectory's units, not scaled; a vector gives a channel per axis.

    Raises
    ------
    UserError
        If there is no guide to one of the names, or the solver cannot take the gas, see `resimulate`.
    """
    if unknown := set(names) - {*GAS_FIELDS, "affected"}:
        raise UserError(
            f"there is no guide to {min(unknown)!r}: the gas solver gives {', '.join(GAS_FIELDS)} "
            "and affected"
        )
    start = trajectory.window(len(trajectory) - 1, len(trajectory))
    unseen = {name: value for name, value in UNSEEN.items() if name not in start.fields}
    shapes = {"temperature": (1, *start.grid), "velocity": (1, *start.grid, start.num_axes)}
    start = replace(
        start,
        fields={**start.fields, **{k: np.full(shapes[k], v.value, np.float32) for k, v in unseen.items()}},
        units={**start.units, **{name: value.unit for name, value in unseen.items()}},
        twin=None,
    )
    made = resimulate(start, times_myr, explosion_energy(trajectory), device)
    return made.to_channels(tuple(names))


def static_channels(trajectory: Trajectory, names: Sequence[str]) -> np.ndarray:
    """Stack what a network is given and does not forecast.

    Parameters
    ----------
    trajectory
        The gas; its last frame counts.
    names
        Of markers, see `static_marker`, and of fields; a vector becomes a channel per axis.

    Returns
    -------
    numpy.ndarray
        `(C, *space)` float32, not scaled.

    Raises
    ------
    UserError
        If there is no such marker or field.
    """
    return np.concatenate(
        [
            static_marker(trajectory, name)[None]
            if name in MARKERS
            else trajectory.to_channels((name,))[-1].astype(np.float32, copy=False)
            for name in names
        ]
    )


def channels(trajectory: Trajectory, fields: Sequence[str], derived: Sequence[str] = ()) -> np.ndarray:
    """Stack fields, and channels derived from them, as a network takes them.

    Parameters
    ----------
    trajectory
        The run.
    fields
        Names of its fields; a vector becomes a channel per axis.
    derived
        `"affected"` (needs the density of the twin), `"site"` and `"site_energy"`.

    Returns
    -------
    numpy.ndarray
        `(T, C, *space)` float32, not scaled: the fields, then the derived channels.

    Raises
    ------
    UserError
        If a field or the twin is missing, or a derived channel is unknown.
    """
    parts = [trajectory.to_channels(tuple(fields)).astype(np.float32, copy=False)]
    parts += [_derive(trajectory, name)[:, None] for name in derived]
    return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _derive(trajectory: Trajectory, name: str) -> np.ndarray:
    if name == "affected":
        if (
            trajectory.twin is None
            or "density" not in trajectory.twin.fields
            or "density" not in trajectory.fields
        ):
            raise UserError(
                "the channel 'affected' needs the density of the run and of its twin without explosion"
            )
        return affected(trajectory.fields["density"], trajectory.twin.fields["density"])
    if name in DERIVED:
        marker = static_marker(trajectory, name)
        return np.broadcast_to(marker, (len(trajectory), *marker.shape))
    raise UserError(f"no derived channel {name!r}; there are: {', '.join(DERIVED)}")
