"""Weight quantizers with a target rule's gradient.

``weight_bit_width=`` (2 to 8), ``weight_rule=``, ``weight_staircase=`` and every Brevitas option
override as usual:

>>> from brevitas.nn import QuantConv2d
>>> conv = QuantConv2d(3, 8, 3, weight_quant=TargetPropInt8WeightPerChannelFloat,
...                    weight_bit_width=4, weight_rule="ste")
"""

from brevitas.core.function_wrapper import TensorClampSte
from brevitas.inject.enum import ScalingImplType, ScalingPerOutputType, StatsOp
from brevitas.quant import (
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    ShiftedUint8WeightPerChannelFloat,
    ShiftedUint8WeightPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
)
from brevitas.quant.fixed_point import Int8WeightPerChannelFixedPoint

from .target_prop import TargetPropBinary, TargetPropInt, TargetPropWeight

__all__ = [
    "TargetPropInt8WeightPerChannelFixedPoint",
    "TargetPropInt8WeightPerChannelFloat",
    "TargetPropInt8WeightPerTensorFixedPoint",
    "TargetPropInt8WeightPerTensorFloat",
    "TargetPropShiftedUint8WeightPerChannelFloat",
    "TargetPropShiftedUint8WeightPerTensorFloat",
    "TargetPropSignedBinaryWeightPerChannelFloat",
    "TargetPropSignedBinaryWeightPerTensorConst",
    "TargetPropSignedBinaryWeightPerTensorUnit",
    "TargetPropSignedTernaryWeightPerChannelFloat",
    "TargetPropSignedTernaryWeightPerTensorConst",
]


class TargetPropSignedBinaryWeightPerTensorConst(
    TargetPropBinary, TargetPropWeight, SignedBinaryWeightPerTensorConst
):
    """Binary weights in {-s, s}, s fixed (0.1 by default).

    As in stock Brevitas, every forward pass clips the latent weights to ±s in place.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedBinaryWeightPerTensorConst)
    """


class TargetPropSignedBinaryWeightPerTensorUnit(TargetPropSignedBinaryWeightPerTensorConst):
    """Binary weights in {-1, 1}, latent weights left as they are: the form for hardware.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedBinaryWeightPerTensorUnit)
    """

    tensor_clamp_impl = TensorClampSte
    scaling_const = 1.0


class TargetPropSignedBinaryWeightPerChannelFloat(TargetPropSignedBinaryWeightPerTensorUnit):
    """Binary weights in {-s, s}, s the mean magnitude of each output channel.

    >>> from brevitas.nn import QuantConv2d
    >>> conv = QuantConv2d(3, 8, 3, weight_quant=TargetPropSignedBinaryWeightPerChannelFloat)

    References:
        Rastegari et al., XNOR-Net, ECCV 2016, arXiv:1603.05279, section 3.1 (the scale).
    """

    scaling_impl_type = ScalingImplType.STATS
    scaling_stats_op = StatsOp.AVE
    scaling_per_output_type = ScalingPerOutputType.CHANNEL
    scaling_min_val = 1e-10


class TargetPropSignedTernaryWeightPerTensorConst(
    TargetPropInt, TargetPropWeight, SignedTernaryWeightPerTensorConst
):
    """Ternary weights in {-s, 0, s}, thresholds ±s/2, s fixed (0.1 by default).

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedTernaryWeightPerTensorConst)
    """


class TargetPropInt8WeightPerTensorFloat(TargetPropInt, TargetPropWeight, Int8WeightPerTensorFloat):
    """Signed narrow weights, scale from the largest magnitude.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerTensorFloat)
    """


class TargetPropInt8WeightPerChannelFloat(
    TargetPropInt, TargetPropWeight, Int8WeightPerChannelFloat
):
    """Signed narrow weights, scale from the largest magnitude of each output channel.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerChannelFloat)
    """


class TargetPropSignedTernaryWeightPerChannelFloat(TargetPropInt8WeightPerChannelFloat):
    """Ternary weights in {-s, 0, s}, s the largest magnitude of each output channel.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedTernaryWeightPerChannelFloat)
    """

    bit_width = 2


class TargetPropInt8WeightPerTensorFixedPoint(
    TargetPropInt, TargetPropWeight, Int8WeightPerTensorFixedPoint
):
    """Signed narrow weights with a power-of-two scale.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerTensorFixedPoint)
    """


class TargetPropInt8WeightPerChannelFixedPoint(
    TargetPropInt, TargetPropWeight, Int8WeightPerChannelFixedPoint
):
    """Signed narrow weights with a power-of-two scale for each output channel.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerChannelFixedPoint)
    """


class TargetPropShiftedUint8WeightPerTensorFloat(
    TargetPropInt, TargetPropWeight, ShiftedUint8WeightPerTensorFloat
):
    """Unsigned weights with a zero-point, both from the weights' range.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropShiftedUint8WeightPerTensorFloat)
    """


class TargetPropShiftedUint8WeightPerChannelFloat(
    TargetPropInt, TargetPropWeight, ShiftedUint8WeightPerChannelFloat
):
    """Unsigned weights with a zero-point for each output channel, both from the weights' range.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropShiftedUint8WeightPerChannelFloat)
    """
