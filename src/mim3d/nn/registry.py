"""Networks by name, as recipes and checkpoints name them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mim3d.errors import UserError
from mim3d.nn.bundled import BundledMIM
from mim3d.nn.causal import MIMStar
from mim3d.nn.convlstm import ConvLSTM
from mim3d.nn.fno import FNO
from mim3d.nn.mim import MIM
from mim3d.nn.multiscale import MultiscaleMIM
from mim3d.nn.network import ForecastNetwork
from mim3d.nn.openstl import OpenSTLMIM
from mim3d.nn.predrnn import PredRNN
from mim3d.nn.unet import UNet

NETWORKS: dict[str, type[ForecastNetwork]] = {
    "mim": MIM,
    "mim-star": MIMStar,
    "multiscale-mim": MultiscaleMIM,
    "bundled-mim": BundledMIM,
    "mim-openstl": OpenSTLMIM,
    "convlstm": ConvLSTM,
    "predrnn": PredRNN,
    "unet": UNet,
    "fno": FNO,
}


def build(name: str, settings: Mapping[str, Any]) -> ForecastNetwork:
    """Make a network with fresh weights.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    settings
        The constructor's arguments, as the network's `settings` gives them.

    Raises
    ------
    UserError
        If there is no such network, or it takes no such settings.
    """
    if name not in NETWORKS:
        raise UserError(f"no network named {name!r}; there are: {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    try:
        inspect.signature(network).bind(**settings)
    except TypeError as error:
        raise UserError(f"settings of network {name!r}: {error}") from None
    return network(**settings)
