"""Files of tensors by name that other programs wrote: PyTorch's `.pth` and `.ckpt`, and safetensors."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mim3d.errors import UserError


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file, bare or under `state_dict` as Lightning stores them, and nothing else.

    Raises
    ------
    UserError
        If the file is missing or damaged, holds no tensors by name, or holds more than tensors and plain
        settings (PyTorch then refuses to open it, because it could run any program).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is not a safetensors file, or is damaged: {error}") from None
    try:
        with warnings.catch_warnings():
            # Of an unusual version of the pickle format.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} is not a checkpoint of tensors alone, so it is not opened: {reason}"
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no weights by name, found a {type(content).__name__}")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
