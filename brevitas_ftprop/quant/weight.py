"""Weight quantizers with a target rule's gradient.

``weight_bit_width=`` (2 to 8), ``weight_rule=``, ``weight_staircase=``, ``weight_saved=`` and
every Brevitas option override as usual:

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
    """Binary weights ``s·sign(w)``, s fixed (``scaling_const``, 0.1 by default).

    As in stock Brevitas, every forward pass clips the latent weights to ±s in place.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedBinaryWeightPerTensorConst)
    """


class TargetPropSignedBinaryWeightPerTensorUnit(TargetPropSignedBinaryWeightPerTensorConst):
    """Binary weights ``sign(w)``, latent weights left as they are: the form for hardware.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedBinaryWeightPerTensorUnit)
    >>> fc.quant_weight().scale.item()
    1.0
    """

    tensor_clamp_impl = TensorClampSte
    scaling_const = 1.0


class TargetPropSignedBinaryWeightPerChannelFloat(TargetPropSignedBinaryWeightPerTensorUnit):
    """Binary weights ``s·sign(w)``, s the mean of |w| over each output channel.

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
    """Ternary weights ``s·clamp(round(w/s), -1, 1)``, s fixed (``scaling_const``, 0.1 by default).

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedTernaryWeightPerTensorConst)
    """


class TargetPropInt8WeightPerTensorFloat(TargetPropInt, TargetPropWeight, Int8WeightPerTensorFloat):
    """Signed weights ``s·clamp(round(w/s), -m, m)``, m = 2^(b-1) - 1, b bits, s = max |w|/m.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerTensorFloat)
    >>> fc.quant_weight().bit_width.item()
    8.0
    """


class TargetPropInt8WeightPerChannelFloat(
    TargetPropInt, TargetPropWeight, Int8WeightPerChannelFloat
):
    """As ``TargetPropInt8WeightPerTensorFloat``, with a scale s for each output channel.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerChannelFloat)
    """


class TargetPropSignedTernaryWeightPerChannelFloat(TargetPropInt8WeightPerChannelFloat):
    """Ternary weights ``s·clamp(round(w/s), -1, 1)``, s the largest |w| of each output channel.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropSignedTernaryWeightPerChannelFloat)
    """

    bit_width = 2


class TargetPropInt8WeightPerTensorFixedPoint(
    TargetPropInt, TargetPropWeight, Int8WeightPerTensorFixedPoint
):
    """As ``TargetPropInt8WeightPerTensorFloat``, with s a power of two.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerTensorFixedPoint)
    """


class TargetPropInt8WeightPerChannelFixedPoint(
    TargetPropInt, TargetPropWeight, Int8WeightPerChannelFixedPoint
):
    """As ``TargetPropInt8WeightPerTensorFloat``, with s a power of two for each output channel.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropInt8WeightPerChannelFixedPoint)
    """


class TargetPropShiftedUint8WeightPerTensorFloat(
    TargetPropInt, TargetPropWeight, ShiftedUint8WeightPerTensorFloat
):
    """Unsigned weights ``s·(clamp(round(w/s + z), 0, 2^b - 1) - z)``, s and z from their range.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropShiftedUint8WeightPerTensorFloat)
    """


class TargetPropShiftedUint8WeightPerChannelFloat(
    TargetPropInt, TargetPropWeight, ShiftedUint8WeightPerChannelFloat
):
    """As ``TargetPropShiftedUint8WeightPerTensorFloat``, with s and z for each output channel.

    >>> from brevitas.nn import QuantLinear
    >>> fc = QuantLinear(4, 2, False, weight_quant=TargetPropShiftedUint8WeightPerChannelFloat)
    """
