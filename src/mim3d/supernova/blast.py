"""The explosion: heat for the gas around the site."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mim3d.supernova.hydrodynamics import ENERGY, MASS


def cell_distance(
    grid: int, cell_width: float, site: Sequence[float], device: torch.device | str = "cpu"
) -> Tensor:
    """Distance of every cell's centre from a site.

    Parameters
    ----------
    grid
        Cells along each of the three axes.
    cell_width
        [pc].
    site
        Coordinates from the lower corner of the box [pc].

    Returns
    -------
    Tensor
        `(grid, grid, grid)` float64 [pc].
    """
    centres = (torch.arange(grid, dtype=torch.float64, device=device) + 0.5) * cell_width
    offsets = torch.meshgrid(*(centres - coordinate for coordinate in site), indexing="ij")
    return torch.stack(offsets).square().sum(dim=0).sqrt()


def explode(
    conserved: Tensor,
    cell_width: float,
    site: Sequence[float],
    energy: float,
    heated_mass: float,
) -> Tensor:
    """Heat the gas nearest to the site of one cloud.

    Whole spheres of cells are heated, by the same energy per mass: as many as come closest to `heated_mass`,
    and at least the cells nearest to the site.

    Parameters
    ----------
    conserved
        `(5, X, Y, Z)`, see `hydrodynamics.to_primitive`.
    cell_width
        [pc].
    site
        Coordinates from the lower corner of the box [pc].
    energy
        Thermal energy [Msun (km/s)^2].
    heated_mass
        [Msun].

    Returns
    -------
    Tensor
        The conserved variables after the explosion.
    """
    distance = cell_distance(conserved.shape[-1], cell_width, site, conserved.device)
    mass = conserved[MASS].double() * cell_width**3
    # Cells at the same distance belong together; the tolerance keeps rounding from tearing them apart.
    radii, shell_of_cell = torch.unique((distance / (1e-6 * cell_width)).round(), return_inverse=True)
    shell_mass = torch.zeros_like(radii).index_add_(0, shell_of_cell.flatten(), mass.flatten())
    enclosed = shell_mass.cumsum(0)
    outermost = int((enclosed - heated_mass).abs().argmin())
    heated = mass * (shell_of_cell <= outermost)
    heat_density = (heated * (energy / heated.sum()) / cell_width**3).to(conserved.dtype)
    after = conserved.clone()
    after[ENERGY] += heat_density
    return after
