"""`torch.compile` where there is a C++ compiler, the plain function where there is none."""

from __future__ import annotations

import functools
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch


@functools.cache
def can_compile() -> bool:
    """Tell whether compiled functions can be had here; warn, once, where they cannot.

    `MIM3D_COMPILE=0` turns compilation off.
    """
    if os.environ.get("MIM3D_COMPILE", "1") == "0":
        return False
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) or shutil.which("clang++"):
        return True
    warnings.warn(
        "no C++ compiler (g++ or clang++) was found: the gas solver runs uncompiled, about 5 times slower",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the compiled form of a function of tensors, or the function itself."""
    if not can_compile():
        return function
    return torch.compile(function, dynamic=False)
