"""What this machine has, and what is chosen for it where nobody says otherwise."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

import torch

from mim3d.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]
"""In which precision convolutions run; states, norms and outputs are float32 always."""

MemoryFormat = Literal["auto", "contiguous", "channels-last"]
"""What lies side by side in memory: the voxels of a channel, or the channels of a voxel."""


def choose_device(device: str | None = "auto") -> torch.device:
    """Return the device of that name; a GPU, where there is one, for `"auto"`.

    Raises
    ------
    UserError
        If there is no such device here.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"no device {device!r} here: {str(error).splitlines()[0]}") from None
    return chosen


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware: only then is it faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    # PyTorch before 2.9 cannot be asked.
    has = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def forecast_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the precision of a forecast's convolutions.

    `"auto"` is bfloat16 on GPUs that have it, and float32 on CPUs: there a forecast takes a second or less,
    and the last digit is worth more.

    Raises
    ------
    UserError
        If there is no such precision.
    """
    if precision not in get_args(Precision):
        raise UserError(f"precision is one of {', '.join(get_args(Precision))}; found {precision!r}")
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and computes_bfloat16(device) else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def forecast_channels_last(memory_format: str, device: torch.device, precision: torch.dtype) -> bool:
    """Tell whether the channels of a voxel lie side by side in a forecast's memory.

    `"auto"` is so for bfloat16 on CPUs, where forecasts of MIM then take two thirds to four fifths of the
    time; in float32 nothing was gained.

    Raises
    ------
    UserError
        If there is no such memory format.
    """
    if memory_format not in get_args(MemoryFormat):
        raise UserError(
            f"memory format is one of {', '.join(get_args(MemoryFormat))}; found {memory_format!r}"
        )
    if memory_format == "auto":
        return device.type == "cpu" and precision is torch.bfloat16
    return memory_format == "channels-last"


def resident_bytes(name: str) -> int | None:
    """Return `VmRSS`, what this process holds now, or `VmHWM`, the most it held; None where nobody knows."""
    with suppress(OSError, IndexError, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(lines.split(f"{name}:")[1].split()[0]) * 1024
    return None


def release_freed_memory() -> None:
    """Give back what the C library keeps of freed memory, where it is the GNU one."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def use_threads(count: int | None) -> None:
    """Compute with so many threads on the CPU from now on; None leaves PyTorch's choice, one a core."""
    if count is not None:
        torch.set_num_threads(count)


def describe_machine(device: torch.device, precision: str | torch.dtype, channels_last: bool = False) -> str:
    """Say in a few words where and how tensors are computed, for instance `cpu (2 threads, float32)`."""
    name = str(precision).removeprefix("torch.")
    if ("bf16" in name or name == "bfloat16") and not computes_bfloat16(device):
        name += " without hardware for it: float32 is many times faster"
    name += ", channels last" * channels_last
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)}, {name})"
    count = torch.get_num_threads()
    return f"{device} ({count} thread{'s' * (count > 1)}, {name})"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads inside the block; 0: as many as before."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
