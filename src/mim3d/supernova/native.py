"""The functions of `gas.c`: the solver for gas on CPUs in float32, in one pass over memory."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mim3d.compilation import has_gradients, library

_SOURCE = Path(__file__).with_name("gas.c")
_WITHOUT = "the gas solver runs some 5 times slower"

_INTEGER, _LONG, _FLOAT, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


def takes(gas: Tensor) -> bool:
    """Tell whether gas is what these functions take, and they are there."""
    is_theirs = gas.device.type == "cpu" and gas.dtype == torch.float32 and not has_gradients(gas)
    return is_theirs and _functions() is not None


@functools.cache
def _functions() -> ctypes.CDLL | None:
    loaded = library(_SOURCE, _WITHOUT)
    if loaded is not None:
        loaded.advance.argtypes = (
            *(_POINTER, _POINTER, _LONG, _LONG * 3, _INTEGER * 3),
            *(_FLOAT, _INTEGER, _INTEGER),
        )
        loaded.signal_speed.argtypes = (_POINTER, _LONG, _LONG, _FLOAT, _INTEGER, _POINTER)
        loaded.signal_speed.restype = None
        loaded.radiate.argtypes = (
            *(_POINTER, _POINTER, _LONG, _LONG, _FLOAT, _FLOAT),
            *(_POINTER, _POINTER, _POINTER, _POINTER, _LONG, _INTEGER),
        )
        loaded.radiate.restype = None
    return loaded


def _library() -> ctypes.CDLL:
    functions = _functions()
    if functions is None:
        raise RuntimeError("gas.c is not compiled: ask `takes` before")
    return functions


def advance(
    conserved: Tensor, step_over_width: Tensor, axes: Sequence[int], gamma: float, is_periodic: bool
) -> Tensor:
    """Advance clouds by three sweeps.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)` that `takes` is true of.
    step_over_width
        Time step over cell width of each cloud `(B,)` [1/(km/s)].
    axes
        In which order.
    gamma
        Ratio of specific heats.
    is_periodic
        Whether the box goes on at its other side; if not, the gas beyond its sides is that beside them.
    """
    gas = conserved.clone(memory_format=torch.contiguous_format)
    steps = step_over_width.to(gas.dtype).contiguous()
    grid, order = (_LONG * 3)(*gas.shape[2:]), (_INTEGER * 3)(*axes)
    if not _library().advance(
        *(gas.data_ptr(), steps.data_ptr(), len(gas), grid, order),
        *(gamma, int(is_periodic), torch.get_num_threads()),
    ):
        raise MemoryError("no memory for a sweep")
    return gas


def signal_speed(conserved: Tensor, gamma: float) -> Tensor:
    """Fastest |velocity component| + sound speed of each cloud `(B,)` [km/s]; NaN if one is not finite."""
    gas = conserved.contiguous()
    speeds = gas.new_empty(len(gas))
    _library().signal_speed(
        *(gas.data_ptr(), len(gas), gas[0, 0].numel(), gamma, torch.get_num_threads(), speeds.data_ptr())
    )
    return speeds


def radiate(
    conserved: Tensor, step_myr: Tensor, gamma: float, density_unit: float, tables: Sequence[Tensor]
) -> None:
    """Let gas cool, in place.

    Parameters
    ----------
    conserved
        `(B, 5, X, Y, Z)` that `takes` is true of, contiguous.
    step_myr
        For how long, each cloud `(B,)` [Myr].
    gamma
        Ratio of specific heats.
    density_unit
        Mass density of the gas that the tables are for [Msun/pc^3].
    tables
        `CoolingCurve.tables`.
    """
    steps = step_myr.to(conserved.dtype).contiguous()
    grid, *nodes = (table.double().contiguous() for table in tables)
    _library().radiate(
        *(conserved.data_ptr(), steps.data_ptr(), len(conserved), conserved[0, 0].numel()),
        *(gamma, density_unit, grid.data_ptr(), *(table.data_ptr() for table in nodes)),
        *(len(nodes[0]), torch.get_num_threads()),
    )
