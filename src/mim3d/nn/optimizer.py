"""Adam with the arithmetic of the original MIM programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from mim3d.errors import UserError


class OriginalAdam(Optimizer):
    """Adam whose epsilon stands inside the square root.

    With gradient g at step t (from 1): v = b1 v + (1 - b1) g; s = b2 s + (1 - b2) g^2;
    p -= lr (v / (1 - b1^t)) / sqrt(s / (1 - b2^t) + eps).
    For gradients well above sqrt(eps) = 1e-4 this is `torch.optim.Adam`; for smaller ones steps shrink.

    Parameters
    ----------
    params
        Parameters, or groups of them.
    lr
        Learning rate.
    betas
        Decay of the first and the second moment; a first of 0 keeps no first moment.
    eps
        Added to the second moment, inside the root.

    Raises
    ------
    UserError
        If a rate is out of range.

    References
    ----------
    Kingma and Ba 2015, arXiv 1412.6980, with the defaults of the original MIM programs.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.95, 0.9995),
        eps: float = 1e-8,
    ) -> None:
        if lr < 0:
            raise UserError(f"lr must be at least 0, found {lr}")
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1):
            raise UserError(f"betas must be at least 0 and less than 1, found {betas}")
        if eps < 0:
            raise UserError(f"eps must be at least 0, found {eps}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; `closure`, where given, recomputes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if parameter.is_complex():
                    # A complex weight is two real ones.
                    parameter, gradient = torch.view_as_real(parameter), torch.view_as_real(gradient)
                if not state:
                    state["step"] = 0
                    state["square"] = torch.zeros_like(parameter)
                    if beta1 > 0:
                        state["mean"] = torch.zeros_like(parameter)
                state["step"] += 1
                square = state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                if beta1 > 0:
                    mean = state["mean"].lerp_(gradient, 1 - beta1) / (1 - beta1 ** state["step"])
                else:
                    mean = gradient
                root = (square / (1 - beta2 ** state["step"]) + group["eps"]).sqrt_()
                parameter.sub_(group["lr"] * mean / root)
        return loss
