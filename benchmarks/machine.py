"""The machine: what it is, how fast it copies, convolves and multiplies, how much memory a process took."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.operations import Convolution

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COPY_BYTES = 2**28


def describe(device: str) -> dict[str, Any]:
    """Name the processor, the threads and the versions."""
    about = {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    if device != "cpu":
        about["gpu"] = torch.cuda.get_device_name(device)
        about["cuda"] = torch.version.cuda
    return about


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def in_precision(precision: str, device: str) -> AbstractContextManager[Any]:
    """Run what stands inside in a precision, as the trainer's mixed precision does."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, DTYPES[precision])


def wait(device: str) -> None:
    """Let a GPU finish."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], object], device: str = "cpu") -> float:
    """Wall-clock time of one call."""
    wait(device)
    began = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - began


def median_seconds(function: Callable[[], object], device: str = "cpu", repeats: int = 3) -> float:
    """Median time of several calls, after one that does not count."""
    function()
    return statistics.median(seconds(function, device) for _ in range(repeats))


def resident_bytes() -> int:
    """Memory of this process now."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return peak_bytes()


def peak_bytes() -> int:
    """Most memory that this process ever had, or had since `forget_peak`."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    # Kilobytes, but on macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Let the peak start anew, where Linux allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def copy_bytes_per_second(device: str, repeats: int = 5) -> float:
    """Bandwidth of a copy within memory, bytes read and bytes written together."""
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / median_seconds(lambda: target.copy_(source), device, repeats)


def matrix_flop_per_second(precision: str, device: str, repeats: int = 5) -> float:
    """Operations per second in the product of two large square matrices."""
    size = 2048 if device == "cpu" else 16384
    left = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    right = torch.randn_like(left)
    return 2 * size**3 / median_seconds(lambda: left @ right, device, repeats)


def convolution_seconds(
    convolutions: Iterable[Convolution],
    batch: int,
    precision: str,
    device: str,
    backward: bool = False,
    repeats: int = 3,
) -> float:
    """Time of these convolutions alone, one after the other, each in the memory format that suits it best.

    Parameters
    ----------
    convolutions
        Which.
    batch
        Samples at a time.
    precision, device
        In what and where.
    backward
        Whether the gradients of input and weights are computed too.
    repeats
        Calls of each whose median counts.

    Returns
    -------
    float
        [s].
    """
    counts: dict[Convolution, int] = {}
    for conv in convolutions:
        counts[conv] = counts.get(conv, 0) + 1
    return sum(
        count
        * min(
            _one_convolution(conv, batch, precision, device, backward, repeats, last)
            for last in (False, True)
        )
        for conv, count in counts.items()
    )


def _one_convolution(
    conv: Convolution,
    batch: int,
    precision: str,
    device: str,
    backward: bool,
    repeats: int,
    channels_last: bool,
) -> float:
    axes = len(conv.grid)
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    layout = formats.get(axes, torch.contiguous_format) if channels_last else torch.contiguous_format

    def draw(*shape: int) -> Tensor:
        values = torch.randn(shape, device=device, dtype=DTYPES[precision])
        return values.contiguous(memory_format=layout).requires_grad_(backward)

    x = draw(batch, conv.in_channels, *(conv.stride * voxels for voxels in conv.grid))
    weight = draw(conv.out_channels, conv.in_channels, *(conv.kernel_size,) * axes)
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    gradient = draw(batch, conv.out_channels, *conv.grid).detach()

    def run() -> None:
        with torch.set_grad_enabled(backward):
            y = convolve(x, weight, None, conv.stride, (conv.kernel_size - 1) // 2)
            if backward:
                torch.autograd.grad(y, (x, weight), gradient)

    return median_seconds(run, device, repeats)
