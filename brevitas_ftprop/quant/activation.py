"""Activation quantizers with a target rule's gradient.

``bit_width=`` (2 to 8), ``rule=``, ``weighting=``, ``staircase=``, ``saved=`` and every Brevitas
option (``scaling_init``, ``min_val``, ``max_val``, ``collect_stats_steps``, …) override as usual;
sign and ternary have their own bit width, and the paper's staircases take ``steps`` and ``max_val``
only:

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
    """Sign activation ``y = s·sign(x)`` with sign(±0) = 1, s fixed (``max_val``, 1 by default).

    >>> import torch
    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
    >>> act(torch.tensor([-0.3, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """


class TargetPropSignedBinaryActPerTensorFloat(TargetPropSignedBinaryActPerTensorConst):
    """Sign activation ``y = s·sign(x)``, s learned from ``max_val`` (1 by default) on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorFloat, rule="hinge")
    >>> len(list(act.parameters()))
    1
    """

    scaling_impl_type = ScalingImplType.PARAMETER


class TargetPropSignedTernaryActPerTensorConst(
    TargetPropInt, TargetPropAct, SignedTernaryActPerTensorConst
):
    """Ternary activation ``y = s·clamp(round(x/s), -1, 1)``, s fixed (``max_val``, 1 by default).

    >>> import torch
    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropSignedTernaryActPerTensorConst)
    >>> act(torch.tensor([-0.6, 0.5, 2.0]))
    tensor([-1.,  0.,  1.])
    """


class TargetPropStaircase3ActPerTensorConst(TargetPropStaircase, TargetPropAct, ActQuantSolver):
    """The paper's 2-bit activation ``y = clamp(ceil(2x), 0, 3)/3``: thresholds 0, 1/2, 1.

    >>> import torch
    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorConst)
    >>> act(torch.tensor([0.0, 0.3, 0.5, 0.7, 2.0])) * 3
    tensor([0., 1., 1., 2., 3.])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4.
    """

    steps = 3


class TargetPropStaircase5ActPerTensorConst(TargetPropStaircase3ActPerTensorConst):
    """The paper's 3-bit activation ``y = clamp(ceil(4x), 0, 5)/5``: thresholds k/4.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase5ActPerTensorConst)
    >>> act.act_quant.bit_width().item()
    3.0

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4.
    """

    steps = 5


class TargetPropStaircase3ActPerTensorFixedPoint(TargetPropStaircase3ActPerTensorConst):
    """The paper's 2-bit activation with levels k/4, ``y = clamp(ceil(2x), 0, 3)/4``.

    Its scale is a power of two, so that sums are exact in float32. The thresholds stay 0, 1/2, 1;
    before a layer with a batch norm the network is the same function.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorFixedPoint)
    >>> act.act_quant.scale().item()
    0.25
    """

    max_val = 3 / 4


class TargetPropStaircase5ActPerTensorFixedPoint(TargetPropStaircase5ActPerTensorConst):
    """The paper's 3-bit activation with levels k/8, ``y = clamp(ceil(4x), 0, 5)/8``.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropStaircase5ActPerTensorFixedPoint)
    >>> act.act_quant.scale().item()
    0.125
    """

    max_val = 5 / 8


class TargetPropInt8ActPerTensorFloat(TargetPropInt, TargetPropAct, Int8ActPerTensorFloat):
    """Signed activation ``y = s·clamp(round(x/s), -2^(b-1), 2^(b-1) - 1)``,
    b bits, s learned from run-time statistics on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFloat, bit_width=2)
    >>> act.act_quant.bit_width().item()
    2.0
    """


class TargetPropUint8ActPerTensorFloat(TargetPropInt, TargetPropAct, Uint8ActPerTensorFloat):
    """Unsigned activation ``y = s·clamp(round(x/s), 0, 2^b - 1)``, b bits,
    s learned from run-time statistics on.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorFloat, bit_width=2)
    >>> act.act_quant.rule
    'soft_hinge'
    """


class TargetPropInt8ActPerTensorFloatMinMaxInit(
    TargetPropInt, TargetPropAct, Int8ActPerTensorFloatMinMaxInit
):
    """Signed activation ``y = s·clamp(round(x/s), -2^(b-1), 2^(b-1) - 1)``,
    s learned from ``max(-min_val, max_val)/2^(b-1)`` on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFloatMinMaxInit, bit_width=4,
    ...                     min_val=-1.0, max_val=1.0)
    """


class TargetPropUint8ActPerTensorFloatMaxInit(
    TargetPropInt, TargetPropAct, Uint8ActPerTensorFloatMaxInit
):
    """Unsigned activation ``y = s·clamp(round(x/s), 0, 2^b - 1)``,
    s learned from ``max_val/(2^b - 1)`` on.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorFloatMaxInit, bit_width=4, max_val=2.0)
    """


class TargetPropInt8ActPerTensorConst(
    TargetPropInt, TargetPropAct, IntQuant, PerTensorConstScaling, ActQuantSolver
):
    """Signed activation ``y = s·clamp(round(x/s), -2^(b-1), 2^(b-1) - 1)``,
    s = ``max(-min_val, max_val)/2^(b-1)`` fixed.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorConst, bit_width=4,
    ...                     min_val=-1.0, max_val=1.0)
    """

    bit_width = 8


class TargetPropUint8ActPerTensorConst(
    TargetPropInt, TargetPropAct, UintQuant, PerTensorConstScaling, ActQuantSolver
):
    """Unsigned activation ``y = s·clamp(round(x/s), 0, 2^b - 1)``,
    s = ``max_val/(2^b - 1)`` fixed.

    >>> import torch
    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorConst, bit_width=2, max_val=3.0)
    >>> act(torch.tensor([-1.0, 0.5, 1.5, 9.0]))
    tensor([0., 0., 2., 3.])
    """

    bit_width = 8


class TargetPropInt8ActPerChannelFloat(PerChannelScaling, TargetPropInt8ActPerTensorFloat):
    """As ``TargetPropInt8ActPerTensorFloat``, with a scale s for each channel.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerChannelFloat, bit_width=4,
    ...                     per_channel_broadcastable_shape=(1, 8, 1, 1),
    ...                     scaling_stats_permute_dims=(1, 0, 2, 3))
    """


class TargetPropUint8ActPerChannelFloat(PerChannelScaling, TargetPropUint8ActPerTensorFloat):
    """As ``TargetPropUint8ActPerTensorFloat``, with a scale s for each channel.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerChannelFloat, bit_width=4,
    ...                 per_channel_broadcastable_shape=(1, 8, 1, 1),
    ...                 scaling_stats_permute_dims=(1, 0, 2, 3))
    """


class TargetPropInt8ActPerTensorFixedPoint(
    TargetPropInt, TargetPropAct, Int8ActPerTensorFixedPoint
):
    """As ``TargetPropInt8ActPerTensorFloat``, with s a power of two.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropInt8ActPerTensorFixedPoint, bit_width=4)
    """


class TargetPropUint8ActPerTensorFixedPoint(
    TargetPropInt, TargetPropAct, Uint8ActPerTensorFixedPoint
):
    """As ``TargetPropUint8ActPerTensorFloat``, with s a power of two.

    >>> from brevitas.nn import QuantReLU
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorFixedPoint, bit_width=4)
    """


class TargetPropShiftedUint8ActPerTensorFloat(
    TargetPropInt, TargetPropAct, ShiftedUint8ActPerTensorFloat
):
    """Unsigned activation ``y = s·(clamp(round(x/s + z), 0, 2^b - 1) - z)``, its scale s and
    zero-point z learned from run-time statistics on.

    >>> from brevitas.nn import QuantIdentity
    >>> act = QuantIdentity(act_quant=TargetPropShiftedUint8ActPerTensorFloat, bit_width=4)
    """
