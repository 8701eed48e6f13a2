"""Bindings that turn a Brevitas quantizer into a target-prop one."""

from brevitas.core.quant import ClampedBinaryQuant, IntQuant
from brevitas.inject import ExtendedInjector

from ..core import (
    TargetPropBinaryQuant,
    TargetPropIntQuant,
    TargetPropRescalingIntQuant,
    TargetPropStaircaseQuant,
)
from ..proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy


class TargetPropOptions(ExtendedInjector):
    """Defaults of the options that every target-prop quantizer takes."""

    rule = "soft_hinge"
    weighting = "grad"
    staircase = "single"
    saved = "exact"


class TargetPropAct(TargetPropOptions):
    """Proxy of target-prop activations."""

    proxy_class = TargetPropActQuantProxy


class TargetPropWeight(TargetPropOptions):
    """Proxy of target-prop weights."""

    proxy_class = TargetPropWeightQuantProxy


class TargetPropBinary(ExtendedInjector):
    """Sign instead of the stock binary quantizer."""

    tensor_quant = TargetPropBinaryQuant
    stock_quant_class = ClampedBinaryQuant


class TargetPropInt(ExtendedInjector):
    """Integer staircase instead of the stock ``IntQuant``."""

    tensor_quant = TargetPropRescalingIntQuant
    int_quant = TargetPropIntQuant
    stock_quant_class = IntQuant


class TargetPropStaircase(ExtendedInjector):
    """The paper's ceil staircase; ``steps`` is its number of steps."""

    tensor_quant = TargetPropStaircaseQuant
    signed = False
    narrow_range = False
    float_to_int_impl_type = "ceil"
