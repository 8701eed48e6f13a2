"""QONNX transformations that bring a graph into the forms which FINN maps exactly.

Each stands alone and can be applied to graphs of other exporters too. None needs FINN.
"""

from .average_pool import AveragePoolToGlobal
from .image_input import ChannelsLastInput, IntegerInput
from .integer_bias import IntegerBias
from .integer_output import OUTPUT_SCALE, IntegerOutput
from .padded_pool import UnsignedPaddedPool
from .pool_order import ThresholdBeforePool
from .pooled_fork import RethresholdPooledFork
from .quant_to_thresholds import QuantToThresholds
from .quantized_bias import FoldQuantizedBias
from .zero_factors import ReachConstantThresholds, UnsignedZeroFactors

__all__ = [
    "OUTPUT_SCALE",
    "AveragePoolToGlobal",
    "ChannelsLastInput",
    "FoldQuantizedBias",
    "IntegerBias",
    "IntegerInput",
    "IntegerOutput",
    "QuantToThresholds",
    "ReachConstantThresholds",
    "RethresholdPooledFork",
    "ThresholdBeforePool",
    "UnsignedPaddedPool",
    "UnsignedZeroFactors",
]
