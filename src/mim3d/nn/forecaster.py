"""The loop over time, written once for every network that forecasts frame by frame."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from mim3d.errors import UserError
from mim3d.nn.network import ForecastNetwork


class RecurrentForecaster(ForecastNetwork):
    """A network that turns a frame and a state into the next frame and state."""

    @abstractmethod
    def step(self, frame: Tensor, state: Any = None, checkpoint: bool = False) -> tuple[Tensor, Any]:
        """Take one step.

        Parameters
        ----------
        frame
            `(B, C, *space)`.
        state
            What the step before returned; None at the first.
        checkpoint
            As in `unroll`.

        Returns
        -------
        tuple of Tensor and state
            The next frame `(B, C, *space)`, and the state to hand to the next step.
        """

    def unroll(
        self,
        frames: Tensor,
        input_length: int,
        keep: Tensor | None = None,
        checkpoint: bool = False,
        guide: Tensor | None = None,
    ) -> Tensor:
        """Forecast every frame but the first: entry k of `(B, T - 1, C, *space)` is frame k + 1.

        See `ForecastNetwork.unroll`.
        """
        self._check_sequence(frames, input_length, keep, guide)
        length = frames.shape[1]
        outputs: list[Tensor] = []
        state = None
        for t in range(length - 1):
            if t < input_length:
                frame = frames[:, t]
            elif keep is None:
                frame = outputs[-1]
            else:
                weight = keep[:, t - input_length].to(frames).reshape(-1, *(1,) * (self.num_axes + 1))
                frame = weight * frames[:, t] + (1 - weight) * outputs[-1]
            output, state = self.step(frame, state, checkpoint)
            outputs.append(output)
        return torch.stack(outputs, 1)

    def forecast(
        self, frames: Tensor, steps: int, limits: Tensor | None = None, guide: Tensor | None = None
    ) -> Tensor:
        """Forecast the frames that follow any number of frames; see `ForecastNetwork.forecast`.

        Without gradients (under `torch.no_grad`) memory does not grow with `steps`, apart from the output.
        """
        self._check_past(frames, steps, guide)
        state = None
        frame = frames[:, 0]
        for t in range(frames.shape[1]):
            frame, state = self.step(frames[:, t], state)
        frame = self._within(frame, limits)
        future = frame.new_empty(len(frames), steps, *frame.shape[1:])
        future[:, 0] = frame
        for k in range(1, steps):
            frame, state = self.step(frame, state)
            frame = self._within(frame, limits)
            future[:, k] = frame
        return future

    def _next_frame(self, frame: Tensor, output: Tensor) -> Tensor:
        """Make the next frame of the network's output for the dynamic channels."""
        output = output.to(frame.dtype)
        if self.residual:
            output = output + frame[:, : self.dynamic_channels]
        if self.static_channels:
            output = torch.cat((output, frame[:, self.dynamic_channels :]), 1)
        return output

    def _check_frame(self, frame: Tensor) -> None:
        if frame.ndim != self.num_axes + 2 or frame.shape[1] != self.in_channels:
            raise UserError(
                f"frame must have shape (B, {self.in_channels}, *space) with {self.num_axes} axes of space, "
                f"found {tuple(frame.shape)}"
            )
