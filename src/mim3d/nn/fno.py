"""Fourier neural operator: all frames at once, from convolutions over the whole box."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mim3d.errors import UserError
from mim3d.nn.direct import DirectForecaster
from mim3d.nn.network import run
from mim3d.nn.precision import full_precision

_OUTPUT_WEIGHT_BOUND = 1e-3


class FNO(DirectForecaster):
    """Fourier neural operator from the input frames to `output_length` frames in one pass.

    The operator is that of the library `neuraloperator` (extra `fno`). The coordinates of every voxel join
    the input frames. A layer multiplies the lowest Fourier modes of the whole box by weights of their own, so
    it sees all of the box at once, on any grid, and takes the box for periodic: `domain_padding` puts empty
    space between its opposite sides. Half precision is not used: the weights are complex numbers.

    Parameters
    ----------
    in_channels
        Channels of a frame.
    hidden_channels
        Channels of the Fourier layers.
    modes
        Fourier modes that are kept along every axis, those of negative frequency counted; on a smaller grid
        all of its modes.
    layers
        Fourier layers.
    domain_padding
        Voxels of zeros at both ends of every axis, as a fraction of the axis.
    num_axes, input_length, output_length, static_channels
        As in `DirectForecaster`.
    residual
        Whether the output is the change since the last input frame. The last layer starts near zero, so that
        an untrained network then is persistence.

    Raises
    ------
    UserError
        If an argument is out of range, or the library is not installed.

    References
    ----------
    Li et al. 2021, arXiv 2010.08895; Kossaifi et al. 2024, arXiv 2412.10354 (the library).
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 32,
        modes: int = 16,
        layers: int = 4,
        domain_padding: float = 0.0,
        *,
        num_axes: int,
        input_length: int = 1,
        output_length: int = 19,
        residual: bool = True,
        static_channels: int = 0,
        guided: bool = False,
    ) -> None:
        super().__init__(
            in_channels, num_axes, input_length, output_length, residual, static_channels, guided
        )
        for name, size in (("hidden_channels", hidden_channels), ("modes", modes), ("layers", layers)):
            if size < 1:
                raise UserError(f"{name} must be at least 1, found {size}")
        if domain_padding < 0:
            raise UserError(f"domain_padding must be at least 0, found {domain_padding}")
        self.hidden_channels = hidden_channels
        self.modes = modes
        self.layers = layers
        self.domain_padding = domain_padding
        # The library's own coordinates stay on the device of their first use.
        self.operator: Any = _library()(
            (modes,) * num_axes,
            self.image_channels + num_axes,
            output_length * self.dynamic_channels,
            hidden_channels,
            n_layers=layers,
            positional_embedding=None,
            domain_padding=domain_padding,
        )
        last = self.operator.projection.fcs[-1]
        nn.init.uniform_(last.weight, -_OUTPUT_WEIGHT_BOUND, _OUTPUT_WEIGHT_BOUND)
        nn.init.zeros_(last.bias)
        self.register_state_dict_post_hook(_drop_metadata)

    def _predict(self, image: Tensor, checkpoint: bool) -> Tensor:
        image = full_precision(image)
        axes = [torch.arange(voxels, device=image.device) / voxels for voxels in image.shape[2:]]
        coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        x = torch.cat((image, coordinates.expand(len(image), *coordinates.shape)), 1)
        with torch.autocast(x.device.type, enabled=False):
            # The library's `forward`, in pieces that can be computed again.
            x = run(checkpoint, self.operator.lifting, x)
            if self.operator.domain_padding is not None:
                x = self.operator.domain_padding.pad(x)
            for layer in range(self.layers):
                x = run(checkpoint, self.operator.fno_blocks, x, layer)
            if self.operator.domain_padding is not None:
                x = self.operator.domain_padding.unpad(x)
            return run(checkpoint, self.operator.projection, x)


def _library() -> Any:
    """Import the class on first use: the library brings much along."""
    # It also changes which warnings are shown, for the whole process.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from neuralop.models import FNO as Operator  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                f"the library neuraloperator is not installed: pip install 'mim3d[fno]' ({error})"
            ) from None
    return Operator


def _drop_metadata(network: nn.Module, weights: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """Leave only tensors: the library adds an entry with its constructor's arguments."""
    weights.pop("_metadata", None)
