"""The Brevitas module that takes a place."""

from __future__ import annotations

from typing import Any

import brevitas.nn as qnn
from brevitas.graph.base import ModuleToModuleByInstance
from brevitas.inject.enum import ScalingImplType
from torch import nn

from .. import quant
from ..models.layers import BINARY_WEIGHTS, INTEGER_BITS, INTEGER_WEIGHTS, STEP_QUANTIZERS
from .choices import OUTER_BITS, Choices
from .placement import Slot

QUANT_LAYERS = {
    nn.Conv1d: qnn.QuantConv1d,
    nn.Conv2d: qnn.QuantConv2d,
    nn.Linear: qnn.QuantLinear,
}


def bits_of(slot: Slot, choices: Choices) -> tuple[int, bool] | None:
    """Bit width and sign of an activation quantizer whose range is free, None of the others."""
    if slot.kind == "layer" or _is_step(slot, choices):
        return None
    if slot.is_outer:
        return OUTER_BITS, slot.kind == "signed"
    if slot.kind == "activation":
        return INTEGER_BITS[choices.act], False
    return choices.inner_signed_bits, slot.kind == "signed"


def quant_module(
    slot: Slot, float_module: nn.Module, limit: float | None, choices: Choices
) -> nn.Module:
    """The quantized module for a place.

    Args:
        slot: the place.
        float_module: what stands there; a layer's parameters are taken over.
        limit: largest value of an activation quantizer with a free range.
        choices: what the quantizers are chosen from.
    """
    if slot.kind == "layer":
        return _layer(slot, float_module, choices)
    if _is_step(slot, choices):
        act_quant = STEP_QUANTIZERS[choices.act][choices.form]
        return qnn.QuantIdentity(act_quant=act_quant, rule=choices.rule)
    found = bits_of(slot, choices)
    assert found is not None
    bits, is_signed = found
    layer = qnn.QuantReLU if slot.kind == "activation" else qnn.QuantIdentity
    options: dict[str, Any] = {"bit_width": bits, "rule": choices.rule}
    if choices.power_of_two:
        act_quant = (
            quant.TargetPropInt8ActPerTensorFixedPoint
            if is_signed
            else quant.TargetPropUint8ActPerTensorFixedPoint
        )
        options |= {"scaling_impl_type": ScalingImplType.PARAMETER, "scaling_init": limit}
    elif is_signed:
        act_quant = quant.TargetPropInt8ActPerTensorFloatMinMaxInit
        options |= {"min_val": -float(limit or 0), "max_val": limit}
    else:
        act_quant = quant.TargetPropUint8ActPerTensorFloatMaxInit
        options |= {"max_val": limit}
    return layer(act_quant=act_quant, **options)


def describe(module: nn.Module) -> str:
    """What a quantized module does, in a few words."""
    if isinstance(module, tuple(QUANT_LAYERS.values())):
        proxy: Any = module.weight_quant
        scale = "tensor" if proxy.scale().numel() == 1 else "channel"
        return f"{type(module).__name__}, {int(proxy.bit_width())} bits, a scale a {scale}"
    proxy = module.act_quant
    sign = "signed" if proxy.is_signed else "unsigned"
    scale = float(proxy.scale().detach())
    return f"{type(module).__name__}, {int(proxy.bit_width())} bits {sign}, scale {scale:.4g}"


def _is_step(slot: Slot, choices: Choices) -> bool:
    return slot.kind == "activation" and not slot.is_outer and choices.act in STEP_QUANTIZERS


def _layer(slot: Slot, float_module: nn.Module, choices: Choices) -> nn.Module:
    bits = OUTER_BITS if slot.is_outer else choices.weight_bits
    # The class is that of integers times one scale.
    scale = "tensor" if slot.is_last else choices.weight_scale
    options: dict[str, Any] = {"weight_rule": choices.weight_rule}
    if bits == 1:
        # Not the paper form's, which clips the weights that were loaded.
        weight_quant, extra = BINARY_WEIGHTS[
            "hardware" if scale == "tensor" else choices.form, scale
        ]
        options |= extra
    else:
        weight_quant = INTEGER_WEIGHTS[choices.form, scale]
        options["weight_bit_width"] = bits
    rewriter = ModuleToModuleByInstance(
        float_module, QUANT_LAYERS[type(float_module)], weight_quant=weight_quant, **options
    )
    return rewriter.init_new_module(float_module)
