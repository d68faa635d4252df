"""Several frames in a step: fewer steps, less to compute and less for errors to grow in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mim3d.errors import UserError
from mim3d.nn.cells import Peephole
from mim3d.nn.multiscale import MultiscaleMIM
from mim3d.nn.network import ManyFramesNetwork
from mim3d.nn.stack import Ablation, StackState


class BundledMIM(ManyFramesNetwork):
    """`MultiscaleMIM` that takes `frames_per_step` frames, as channels of one, to as many later ones.

    19 frames, 5 in a step, are 4 steps in place of 19. The past is divided from its end on; where it does not
    fill its first bundle, its first frame stands for those before it.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    frames_per_step
        Frames in a bundle.
    hidden_channels, kernel_size, num_axes, grid, patch_size, encoder_channels, layer_norm, peephole, ablation
        See `MultiscaleMIM`.
    residual
        Whether the output is the change since the last frame of the bundle that went in.
    static_channels
        How many channels, the last ones, are given and not forecast.

    Raises
    ------
    UserError
        If an argument is out of range.

    References
    ----------
    Brandstetter, Worrall & Welling 2022, arXiv 2202.03376, section 3.1 (temporal bundling).
    """

    def __init__(
        self,
        in_channels: int,
        frames_per_step: int = 5,
        hidden_channels: Sequence[int] = (48, 48),
        kernel_size: int = 3,
        *,
        num_axes: int,
        grid: Sequence[int] | None = None,
        patch_size: int = 2,
        encoder_channels: Sequence[int] = (32, 32),
        layer_norm: bool = True,
        peephole: Peephole = "channel",
        residual: bool = True,
        static_channels: int = 0,
        ablation: Ablation = "none",
    ) -> None:
        super().__init__(in_channels, num_axes, static_channels, residual)
        if frames_per_step < 1:
            raise UserError(f"frames_per_step must be at least 1, found {frames_per_step}")
        self.frames_per_step = frames_per_step
        self.core = MultiscaleMIM(
            frames_per_step * self.dynamic_channels + static_channels,
            hidden_channels,
            kernel_size,
            num_axes=num_axes,
            grid=grid,
            patch_size=patch_size,
            encoder_channels=encoder_channels,
            layer_norm=layer_norm,
            peephole=peephole,
            residual=False,
            static_channels=static_channels,
            ablation=ablation,
        )
        self.hidden_channels = self.core.hidden_channels
        self.kernel_size = kernel_size
        self.grid = self.core.grid
        self.patch_size = patch_size
        self.encoder_channels = self.core.encoder_channels
        self.layer_norm = layer_norm
        self.peephole = peephole
        self.ablation = ablation

    def unroll(
        self,
        frames: Tensor,
        input_length: int,
        keep: Tensor | None = None,
        checkpoint: bool = False,
        guide: Tensor | None = None,
    ) -> Tensor:
        """Forecast every frame after the first bundle; see `ForecastNetwork.unroll`.

        No true frame is fed on the way: `keep` is an error.
        """
        self._check_sequence(frames, input_length, keep, guide)
        outputs: list[Tensor] = []
        state = None
        for bundle in self._bundles(frames[:, :input_length]):
            output, state = self._step(bundle, state, checkpoint)
            outputs.append(output)
        # The last of these is the first of the future.
        known = (len(outputs) - 1) * self.frames_per_step
        steps = frames.shape[1] - input_length
        for _ in range(self.frames_per_step, steps, self.frames_per_step):
            output, state = self._step(outputs[-1], state, checkpoint)
            outputs.append(output)
        return torch.cat(outputs, 1)[:, : known + steps]

    def forecast(
        self, frames: Tensor, steps: int, limits: Tensor | None = None, guide: Tensor | None = None
    ) -> Tensor:
        """Forecast the frames that follow any number of frames; see `ForecastNetwork.forecast`."""
        self._check_past(frames, steps, guide)
        state = None
        output = frames
        for bundle in self._bundles(frames):
            output, state = self._step(bundle, state)
        future = [self._within(output, limits)]
        for _ in range(self.frames_per_step, steps, self.frames_per_step):
            output, state = self._step(future[-1], state)
            future.append(self._within(output, limits))
        return torch.cat(future, 1)[:, :steps]

    def _bundles(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Divide `(B, T, C, *space)` into bundles `(B, frames_per_step, C, *space)`."""
        missing = -frames.shape[1] % self.frames_per_step
        first = frames[:, :1].expand(-1, missing, *frames.shape[2:])
        return torch.cat((first, frames), 1).split(self.frames_per_step, 1)

    def _step(
        self, bundle: Tensor, state: StackState | None, checkpoint: bool = False
    ) -> tuple[Tensor, StackState]:
        """Turn a bundle and a state into the next ones."""
        image, new_state = self.core.step(self._to_image(bundle), state, checkpoint)
        return self._to_frames(image[:, : self.frames_per_step * self.dynamic_channels], bundle), new_state
