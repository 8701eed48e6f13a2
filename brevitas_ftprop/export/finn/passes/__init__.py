"""QONNX transformations that bring a graph into the forms which FINN maps exactly.

Each stands alone and can be applied to graphs of other exporters too. None needs FINN.
"""

from qonnx.core.modelwrapper import ModelWrapper

from ...height_one import HeightOne
from .absorbed_summand import AbsorbSummandIntoThresholds
from .average_pool import AveragePoolToGlobal
from .channels_last_copies import ChannelsLastCopies
from .flattened_quantizer import QuantizeBeforeFlattening
from .idle_layers import DropIdleLayers
from .image_input import ChannelsLastInput, IntegerInput
from .integer_bias import IntegerBias
from .integer_output import OUTPUT_SCALE, IntegerOutput
from .joined_scales import AffineBehindConcat
from .one_bit_signs import OneBitSigns
from .padded_pool import UnsignedPaddedPool
from .padding import PadIntegers, PadIntoWindows, UnsignedPaddedWindows
from .plain_upsampling import PlainUpsampling
from .pool_order import ThresholdBeforePool
from .pooled_fork import RethresholdPooledFork
from .quant_to_thresholds import QuantToThresholds
from .quantized_bias import FoldQuantizedBias
from .truncated_pool import TruncatedPoolToQuantAvgPool
from .zero_factors import ReachConstantThresholds, UnsignedZeroFactors

# What leaves quantizers quantizers; a check looks at a graph behind them.
PLAINER = (
    HeightOne,
    FoldQuantizedBias,
    PlainUpsampling,
    DropIdleLayers,
    AveragePoolToGlobal,
    QuantizeBeforeFlattening,
)


def plain(model: ModelWrapper) -> ModelWrapper:
    """The graph behind all of ``PLAINER``."""
    for each in PLAINER:
        model = model.transform(each())
    return model


__all__ = [
    "OUTPUT_SCALE",
    "PLAINER",
    "AbsorbSummandIntoThresholds",
    "AffineBehindConcat",
    "AveragePoolToGlobal",
    "ChannelsLastCopies",
    "ChannelsLastInput",
    "DropIdleLayers",
    "FoldQuantizedBias",
    "HeightOne",
    "IntegerBias",
    "IntegerInput",
    "IntegerOutput",
    "OneBitSigns",
    "PadIntegers",
    "PadIntoWindows",
    "PlainUpsampling",
    "QuantToThresholds",
    "QuantizeBeforeFlattening",
    "ReachConstantThresholds",
    "RethresholdPooledFork",
    "ThresholdBeforePool",
    "TruncatedPoolToQuantAvgPool",
    "UnsignedPaddedPool",
    "UnsignedPaddedWindows",
    "UnsignedZeroFactors",
    "plain",
]
