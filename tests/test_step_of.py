"""The step that a quantizer is said to compute gives what the quantizer gives, stock or ours."""

from __future__ import annotations

import pytest
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import CeilSte, Identity, RoundSte, TensorClamp
from brevitas.core.quant import (
    BinaryQuant,
    ClampedBinaryQuant,
    IntQuant,
    RescalingIntQuant,
    TernaryQuant,
)
from brevitas.core.scaling import ConstScaling, IntScaling
from brevitas.core.zero_point import ZeroZeroPoint
from torch import nn

from brevitas_ftprop.core import (
    TargetPropBinaryQuant,
    TargetPropIntQuant,
    TargetPropRescalingIntQuant,
    TargetPropStaircaseQuant,
    TargetPropTernaryQuant,
    step_of,
)
from brevitas_ftprop.kernels import Integers, Operands, PaperStaircase, Sign, Ternary

SCALE = ConstScaling(0.5)


def integer(kind, int_quant):
    return kind(int_quant, SCALE, IntScaling(False, True), ZeroZeroPoint(), BitWidthConst(3))


class OwnBinary(BinaryQuant):
    """Of a user's own."""


class OwnRescaling(RescalingIntQuant):
    """Of a user's own."""


KNOWN = {
    "binary": (BinaryQuant(SCALE), Sign()),
    "binary of a user's own": (OwnBinary(SCALE), Sign()),
    "clamped binary": (ClampedBinaryQuant(SCALE), Sign()),
    "our binary": (TargetPropBinaryQuant(SCALE, "ste", staircase="sum"), Sign()),
    "ternary": (TernaryQuant(SCALE, 0.7), Ternary(0.7, "single")),
    "our ternary": (
        TargetPropTernaryQuant(SCALE, 0.7, "hinge", staircase="sum"),
        Ternary(0.7, "sum"),
    ),
    "our staircase": (
        TargetPropStaircaseQuant(5, "hinge", staircase="sum", max_val=2.0),
        PaperStaircase(5, 2.0, "sum"),
    ),
    "integer": (
        integer(RescalingIntQuant, IntQuant(False, True, Identity(), CeilSte(), TensorClamp())),
        Integers("ceil", "single"),
    ),
    "our integer": (
        integer(
            TargetPropRescalingIntQuant,
            TargetPropIntQuant(False, True, Identity(), RoundSte(), "hinge", staircase="sum"),
        ),
        Integers("round", "sum"),
    ),
}


@pytest.mark.parametrize(("quant", "step"), KNOWN.values(), ids=KNOWN.keys())
def test_the_step_computes_what_the_quantizer_does(quant, step):
    found = step_of(quant)
    assert found == step
    x = torch.linspace(-3, 3, 61)
    y, scale, zero_point, bit_width = quant(x)
    operands = Operands(scale)
    if isinstance(step, PaperStaircase):
        operands = Operands()
    if isinstance(step, Integers):
        bounds = quant.int_quant.min_int(bit_width), quant.int_quant.max_int(bit_width)
        operands = Operands(scale, zero_point, *bounds)
    assert torch.equal(found.output(x, operands), y)


def test_no_step_is_known_for_variants_and_for_roundings_of_a_users_own():
    own_rounding = IntQuant(False, True, Identity(), nn.Hardtanh(), TensorClamp())
    variant = IntQuant(False, True, Identity(), RoundSte(), TensorClamp())
    assert step_of(integer(RescalingIntQuant, own_rounding)) is None
    assert step_of(integer(OwnRescaling, variant)) is None
    assert step_of(nn.Identity()) is None
