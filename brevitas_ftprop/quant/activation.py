"""Activation quantizers with a target rule's gradient.

``bit_width=`` (2 to 8), ``rule=``, ``weighting=``, ``staircase=`` and every Brevitas option
(``scaling_init``, ``min_val``, ``max_val``, ``collect_stats_steps``, …) override as usual; sign and
ternary have their own bit width, and the paper's staircases take ``steps`` and ``max_val`` only:

>>> from brevitas.nn import QuantIdentity, QuantReLU
>>> sign = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
>>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorFloat, bit_width=2, rule="saturated_ste")
"""

from brevitas.inject import ExtendedInjector
from brevitas.inject.enum import RestrictValueType, ScalingImplType, ScalingPerOutputType
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8ActPerTensorFloatMinMaxInit,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedTernaryActPerTensorConst,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
    Uint8ActPerTensorFloatMaxInit,
)
from brevitas.quant.base import IntQuant, UintQuant
from brevitas.quant.solver import ActQuantSolver

from .target_prop import TargetPropAct, TargetPropBinary, TargetPropInt, TargetPropStaircase

__all__ = [
    "TargetPropInt8ActPerChannelFloat",
    "TargetPropInt8ActPerTensorConst",
    "TargetPropInt8ActPerTensorFixedPoint",
    "TargetPropInt8ActPerTensorFloat",
    "TargetPropInt8ActPerTensorFloatMinMaxInit",
    "TargetPropShiftedUint8ActPerTensorFloat",
    "TargetPropSignedBinaryActPerTensorConst",
    "TargetPropSignedBinaryActPerTensorFloat",
    "TargetPropSignedTernaryActPerTensorConst",
    "TargetPropStaircase3ActPerTensorConst",
    "TargetPropStaircase3ActPerTensorFixedPoint",
    "TargetPropStaircase5ActPerTensorConst",
    "TargetPropStaircase5ActPerTensorFixedPoint",
    "TargetPropUint8ActPerChannelFloat",
    "TargetPropUint8ActPerTensorConst",
    "TargetPropUint8ActPerTensorFixedPoint",
    "TargetPropUint8ActPerTensorFloat",
    "TargetPropUint8ActPerTensorFloatMaxInit",
]


class PerTensorConstScaling(ExtendedInjector):
    """One scale, fixed by ``min_val`` and ``max_val``."""

    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP
    scaling_per_output_type = ScalingPerOutputType.TENSOR


class PerChannelScaling(ExtendedInjector):
    """A scale for each channel: pass ``per_channel_broadcastable_shape=(1, C, 1, 1)`` and
    ``scaling_stats_permute_dims=(1, 0, 2, 3)``.
    """

    scaling_per_output_type = ScalingPerOutputType.CHANNEL


class TargetPropSignedBinaryActPerTensorConst(
    TargetPropBinary, TargetPropAct, SignedBinaryActPerTensorConst
):
    """Sign activation in {-s, s}, s fixed (1 by default).

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
    """


class TargetPropSignedBinaryActPerTensorFloat(TargetPropSignedBinaryActPerTensorConst):
    """Sign activation in {-s, s}, s learned from 1 (or ``max_val``) on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorFloat, rule="hinge")
    """

    scaling_impl_type = ScalingImplType.PARAMETER


class TargetPropSignedTernaryActPerTensorConst(
    TargetPropInt, TargetPropAct, SignedTernaryActPerTensorConst
):
    """Ternary activation in {-s, 0, s}, thresholds ±s/2, s fixed (1 by default).

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropSignedTernaryActPerTensorConst)
    """


class TargetPropStaircase3ActPerTensorConst(TargetPropStaircase, TargetPropAct, ActQuantSolver):
    """The paper's 2-bit activation: levels 0, 1/3, 2/3, 1 at thresholds 0, 1/2, 1.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorConst)
    """

    steps = 3


class TargetPropStaircase5ActPerTensorConst(TargetPropStaircase3ActPerTensorConst):
    """The paper's 3-bit activation: levels k/5 at thresholds k/4.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase5ActPerTensorConst)
    """

    steps = 5


class TargetPropStaircase3ActPerTensorFixedPoint(TargetPropStaircase3ActPerTensorConst):
    """The paper's 2-bit activation with levels k/4 instead of k/3: a power-of-two scale.

    The thresholds stay 0, 1/2, 1. Before a layer with a batch norm the network is the same
    function; its sums are exact in float32.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorFixedPoint)
    """

    max_val = 3 / 4


class TargetPropStaircase5ActPerTensorFixedPoint(TargetPropStaircase5ActPerTensorConst):
    """The paper's 3-bit activation with levels k/8 instead of k/5: a power-of-two scale.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase5ActPerTensorFixedPoint)
    """

    max_val = 5 / 8


class TargetPropInt8ActPerTensorFloat(TargetPropInt, TargetPropAct, Int8ActPerTensorFloat):
    """Signed activation, scale learned from run-time statistics on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFloat, bit_width=2)
    """


class TargetPropUint8ActPerTensorFloat(TargetPropInt, TargetPropAct, Uint8ActPerTensorFloat):
    """Unsigned activation, scale learned from run-time statistics on.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorFloat, bit_width=2)
    """


class TargetPropInt8ActPerTensorFloatMinMaxInit(
    TargetPropInt, TargetPropAct, Int8ActPerTensorFloatMinMaxInit
):
    """Signed activation, scale learned from ``min_val`` and ``max_val`` on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFloatMinMaxInit, bit_width=4,
    ...                     min_val=-1.0, max_val=1.0)
    """


class TargetPropUint8ActPerTensorFloatMaxInit(
    TargetPropInt, TargetPropAct, Uint8ActPerTensorFloatMaxInit
):
    """Unsigned activation, scale learned from ``max_val`` on.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorFloatMaxInit, bit_width=4, max_val=2.0)
    """


class TargetPropInt8ActPerTensorConst(
    TargetPropInt, TargetPropAct, IntQuant, PerTensorConstScaling, ActQuantSolver
):
    """Signed activation, scale fixed by ``min_val`` and ``max_val``.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorConst, bit_width=4,
    ...                     min_val=-1.0, max_val=1.0)
    """

    bit_width = 8


class TargetPropUint8ActPerTensorConst(
    TargetPropInt, TargetPropAct, UintQuant, PerTensorConstScaling, ActQuantSolver
):
    """Unsigned activation, scale fixed by ``max_val``.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorConst, bit_width=2, max_val=3.0)
    """

    bit_width = 8


class TargetPropInt8ActPerChannelFloat(PerChannelScaling, TargetPropInt8ActPerTensorFloat):
    """Signed activation, one scale a channel, learned from run-time statistics on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerChannelFloat, bit_width=4,
    ...                     per_channel_broadcastable_shape=(1, 8, 1, 1),
    ...                     scaling_stats_permute_dims=(1, 0, 2, 3))
    """


class TargetPropUint8ActPerChannelFloat(PerChannelScaling, TargetPropUint8ActPerTensorFloat):
    """Unsigned activation, one scale a channel, learned from run-time statistics on.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerChannelFloat, bit_width=4,
    ...                 per_channel_broadcastable_shape=(1, 8, 1, 1),
    ...                 scaling_stats_permute_dims=(1, 0, 2, 3))
    """


class TargetPropInt8ActPerTensorFixedPoint(
    TargetPropInt, TargetPropAct, Int8ActPerTensorFixedPoint
):
    """Signed activation, power-of-two scale learned from run-time statistics on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFixedPoint, bit_width=4)
    """


class TargetPropUint8ActPerTensorFixedPoint(
    TargetPropInt, TargetPropAct, Uint8ActPerTensorFixedPoint
):
    """Unsigned activation, power-of-two scale learned from run-time statistics on.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorFixedPoint, bit_width=4)
    """


class TargetPropShiftedUint8ActPerTensorFloat(
    TargetPropInt, TargetPropAct, ShiftedUint8ActPerTensorFloat
):
    """Unsigned activation with a zero-point; both learned from run-time statistics on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropShiftedUint8ActPerTensorFloat, bit_width=4)
    """
