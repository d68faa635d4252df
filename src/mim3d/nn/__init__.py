"""The networks: tensors in, tensors out, no files and no physics."""

from mim3d.nn.bundled import BundledMIM as BundledMIM
from mim3d.nn.causal import CausalLSTMCell as CausalLSTMCell
from mim3d.nn.causal import CausalMIMBlock as CausalMIMBlock
from mim3d.nn.causal import CausalMIMStack as CausalMIMStack
from mim3d.nn.causal import MIMStar as MIMStar
from mim3d.nn.cells import BlockState as BlockState
from mim3d.nn.cells import ConvLSTMCell as ConvLSTMCell
from mim3d.nn.cells import MIMBlock as MIMBlock
from mim3d.nn.cells import MIMNCell as MIMNCell
from mim3d.nn.cells import MIMSCell as MIMSCell
from mim3d.nn.cells import Peephole as Peephole
from mim3d.nn.cells import RecurrentState as RecurrentState
from mim3d.nn.cells import STLSTMCell as STLSTMCell
from mim3d.nn.conv import ConvNd as ConvNd
from mim3d.nn.conv import set_channels_last as set_channels_last
from mim3d.nn.conv import set_exact_sums as set_exact_sums
from mim3d.nn.convlstm import ConvLSTM as ConvLSTM
from mim3d.nn.convlstm import ConvLSTMStack as ConvLSTMStack
from mim3d.nn.direct import DirectForecaster as DirectForecaster
from mim3d.nn.fno import FNO as FNO
from mim3d.nn.forecaster import RecurrentForecaster as RecurrentForecaster
from mim3d.nn.mim import MIM as MIM
from mim3d.nn.multiscale import MultiscaleMIM as MultiscaleMIM
from mim3d.nn.network import ForecastNetwork as ForecastNetwork
from mim3d.nn.norm import TensorLayerNorm as TensorLayerNorm
from mim3d.nn.openstl import OpenSTLMIM as OpenSTLMIM
from mim3d.nn.optimizer import OriginalAdam as OriginalAdam
from mim3d.nn.patching import depth_to_space as depth_to_space
from mim3d.nn.patching import space_to_depth as space_to_depth
from mim3d.nn.predrnn import PredRNN as PredRNN
from mim3d.nn.predrnn import PredRNNStack as PredRNNStack
from mim3d.nn.predrnn import PredRNNState as PredRNNState
from mim3d.nn.registry import NETWORKS as NETWORKS
from mim3d.nn.registry import build as build
from mim3d.nn.stack import MIMStack as MIMStack
from mim3d.nn.stack import StackState as StackState
from mim3d.nn.unet import UNet as UNet

__all__ = [
    "FNO",
    "MIM",
    "NETWORKS",
    "BlockState",
    "BundledMIM",
    "CausalLSTMCell",
    "CausalMIMBlock",
    "CausalMIMStack",
    "ConvLSTM",
    "ConvLSTMCell",
    "ConvLSTMStack",
    "ConvNd",
    "DirectForecaster",
    "ForecastNetwork",
    "MIMBlock",
    "MIMNCell",
    "MIMSCell",
    "MIMStack",
    "MIMStar",
    "MultiscaleMIM",
    "OpenSTLMIM",
    "OriginalAdam",
    "Peephole",
    "PredRNN",
    "PredRNNStack",
    "PredRNNState",
    "RecurrentForecaster",
    "RecurrentState",
    "STLSTMCell",
    "StackState",
    "TensorLayerNorm",
    "UNet",
    "build",
    "depth_to_space",
    "set_exact_sums",
    "space_to_depth",
]
