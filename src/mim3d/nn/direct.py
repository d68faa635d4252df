"""All frames at once: what the networks share that forecast without a step from frame to frame."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mim3d.errors import UserError
from mim3d.nn.network import ManyFramesNetwork


class DirectForecaster(ManyFramesNetwork):
    """A network that turns `input_length` frames into the `output_length` that follow, in one pass.

    A forecast of more frames goes on from the network's own.

    Parameters
    ----------
    in_channels, num_axes
        As in `ForecastNetwork`.
    input_length
        Frames that go in.
    output_length
        Frames that come out.
    residual
        Whether the output is the change since the last input frame, or in a guided network the guide's error.
    static_channels
        How many channels, the last ones, are given and not forecast; those of the last input frame are used.
    guided
        Whether there is a guide to every frame that is to be forecast, see `ForecastNetwork`. It is seen as
        the change since the last input frame.

    Attributes
    ----------
    image_channels
        Channels of the image that the input frames, and the guide, make.

    Raises
    ------
    UserError
        If an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_axes: int,
        input_length: int,
        output_length: int,
        residual: bool,
        static_channels: int,
        guided: bool,
    ) -> None:
        super().__init__(in_channels, num_axes, static_channels, residual, guided)
        for name, length in (("input_length", input_length), ("output_length", output_length)):
            if length < 1:
                raise UserError(f"{name} must be at least 1, found {length}")
        self.input_length = input_length
        self.output_length = output_length
        seen = input_length + (output_length if guided else 0)
        self.image_channels = seen * self.dynamic_channels + static_channels

    @abstractmethod
    def _predict(self, image: Tensor, checkpoint: bool) -> Tensor:
        """Turn `(B, image_channels, *space)` into `(B, output_length * dynamic_channels, *space)`."""

    def _check_size(self, grid: Sequence[int]) -> None:
        """Raise a UserError where the network cannot work on a grid."""

    def guide_length(self, steps: int) -> int:
        """Return how many frames of a guide it takes to forecast so many: those of whole passes."""
        return -(-steps // self.output_length) * self.output_length

    def unroll(
        self,
        frames: Tensor,
        input_length: int,
        keep: Tensor | None = None,
        checkpoint: bool = False,
        guide: Tensor | None = None,
    ) -> Tensor:
        """Forecast the frames after `input_length`, `(B, T - input_length, C, *space)`.

        See `ForecastNetwork.unroll`. No true frame is fed on the way: `keep` is an error.
        """
        self._check_sequence(frames, input_length, keep, guide)
        if input_length != self.input_length:
            raise UserError(
                f"the network takes input_length = {self.input_length} frames, found {input_length}"
            )
        return self._roll_out(frames[:, :input_length], frames.shape[1] - input_length, checkpoint, guide)

    def forecast(
        self, frames: Tensor, steps: int, limits: Tensor | None = None, guide: Tensor | None = None
    ) -> Tensor:
        """Forecast the frames that follow the last `input_length`; see `ForecastNetwork.forecast`."""
        self._check_past(frames, steps, guide)
        if frames.shape[1] < self.input_length:
            raise UserError(
                f"frames must hold at least input_length = {self.input_length}, found {frames.shape[1]}"
            )
        return self._roll_out(frames[:, -self.input_length :], steps, False, guide, limits)

    def _roll_out(
        self,
        past: Tensor,
        steps: int,
        checkpoint: bool,
        guide: Tensor | None,
        limits: Tensor | None = None,
    ) -> Tensor:
        """Repeat the network until there are enough frames."""
        self._check_size(past.shape[3:])
        outputs: list[Tensor] = []
        for start in range(0, steps, self.output_length):
            image = self._to_image(past)
            ahead = None if guide is None else guide[:, start : start + self.output_length]
            if ahead is not None:
                # Half precision keeps small numbers.
                change = ahead - past[:, -1:, : self.dynamic_channels]
                image = torch.cat((image, change.flatten(1, 2)), 1)
            made = self._to_frames(self._predict(image, checkpoint), past, ahead)
            outputs.append(self._within(made, limits))
            past = torch.cat((past, outputs[-1]), 1)[:, -self.input_length :]
        return torch.cat(outputs, 1)[:, :steps]
