"""Which numbers stay in float32 when the convolutions run in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """Return a half-precision tensor as float32, any other as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
