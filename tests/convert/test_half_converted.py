"""A conversion that raises has changed nothing, whatever the bad quantizer and its place."""

import pytest
import torch
from brevitas.core.function_wrapper import RoundSte, TensorClamp
from brevitas.core.function_wrapper.learned_round import LearnedRoundSigmoid, LearnedRoundSte
from brevitas.core.quant import IntQuant
from brevitas.inject.enum import QuantType, RestrictValueType, ScalingImplType, ScalingPerOutputType
from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.fixed_point import Int4WeightPerTensorFixedPointDecoupled
from brevitas.quant.float import Fp8e4m3ActPerTensorFloat
from brevitas.quant.mx_quant_ocp import MXInt8Act
from brevitas.quant.solver import ActQuantSolver
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from brevitas_ftprop import quant, restore_quantizers, swap_quantizers
from tests.convert.mixed_network import same_values, snapshot, values

WIDTH = 6


class Ternary(ActQuantSolver):
    quant_type = QuantType.TERNARY
    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP
    scaling_per_output_type = ScalingPerOutputType.TENSOR
    scaling_init = 1.0
    threshold = 0.0
    signed = True


class OwnInt(IntQuant):
    """What only its author knows."""


class OwnClamp(TensorClamp):
    """What only its author knows."""


def linear(weight_quant, **options):
    return QuantLinear(WIDTH, WIDTH, bias=False, weight_quant=weight_quant, **options)


def identity(act_quant, **options):
    return QuantIdentity(act_quant=act_quant, **options)


def with_part(layer, name, part):
    setattr(layer.act_quant.fused_activation_quant_proxy.tensor_quant, name, part)
    return layer


def with_clamp():
    layer = identity(Int8ActPerTensorFloat)
    quant = layer.act_quant.fused_activation_quant_proxy.tensor_quant
    quant.int_quant.tensor_clamp_impl = OwnClamp()
    return layer


def learning(part):
    layer = linear(Int8WeightPerTensorFloat)
    layer.weight_quant.tensor_quant.int_quant.float_to_int_impl = part
    return layer


GOOD = {
    "int": lambda: identity(Int8ActPerTensorFloat, bit_width=3),
    "relu": lambda: QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=2),
    "sign": lambda: identity(SignedBinaryActPerTensorConst),
    "int weight": lambda: linear(Int8WeightPerChannelFloat, weight_bit_width=4),
    "sign weight": lambda: linear(SignedBinaryWeightPerTensorConst),
    "plain": lambda: nn.Linear(WIDTH, WIDTH),
    "ours": lambda: identity(quant.TargetPropSignedBinaryActPerTensorConst),
    "our weight": lambda: linear(quant.TargetPropInt8WeightPerTensorFloat),
    "disabled": lambda: identity(None),
}
BAD = {
    "float": lambda: identity(Fp8e4m3ActPerTensorFloat),
    "groupwise": lambda: identity(MXInt8Act, group_dim=1, group_size=2),
    "decoupled": lambda: linear(Int4WeightPerTensorFixedPointDecoupled),
    "zero threshold": lambda: identity(Ternary),
    "negative threshold": lambda: identity(Ternary, threshold=-0.5),
    "own clamp": with_clamp,
    "own integers": lambda: with_part(
        identity(Int8ActPerTensorFloat),
        "int_quant",
        OwnInt(True, True, nn.Identity(), RoundSte()),
    ),
    "learned rounding": lambda: learning(
        LearnedRoundSte(LearnedRoundSigmoid(), torch.zeros(WIDTH, WIDTH), nn.Identity())
    ),
    "own learned rounding": lambda: learning(nn.PReLU()),
}
IRREVERSIBLE = {
    "staircase": lambda: identity(quant.TargetPropStaircase3ActPerTensorConst),
    "no stock class": lambda: identity(
        quant.TargetPropSignedBinaryActPerTensorConst, stock_quant_class=nn.Tanh
    ),
}


def network(names, bad, position):
    torch.manual_seed(7)
    layers = [GOOD[name]() for name in names]
    layers.insert(min(position, len(layers)), bad())
    model = nn.Sequential(*layers)
    for _ in range(2):
        model(batch())
    return model.eval()


def batch():
    return torch.linspace(-2, 2, 4 * WIDTH).reshape(4, WIDTH)


def everything(model):
    with torch.no_grad():
        output = model(batch())
    injectors = [getattr(m, "quant_injector", None) for m in model.modules()]
    attributes = [sorted(vars(m)) for m in model.modules()]
    return snapshot(model), injectors, attributes, values(model), output


def assert_unchanged(model, before):
    after = everything(model)
    assert after[:3] == before[:3]
    same_values(after[3], before[3])
    assert torch.equal(after[4], before[4])


good = st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(good, st.sampled_from(sorted(BAD)), st.integers(0, 5), st.sampled_from(["grad", "mean"]))
def test_a_model_with_one_quantizer_that_cannot_be_converted_stays_as_it_was(
    names, bad, position, weighting
):
    model = network(names, BAD[bad], position)
    before = everything(model)
    where = None if weighting == "grad" else lambda name, proxy: True
    with pytest.raises((TypeError, ValueError)):
        swap_quantizers(model, "hinge", weights=True, weighting=weighting, where=where)
    assert_unchanged(model, before)


@settings(max_examples=20, deadline=None)
@given(good, st.sampled_from(sorted(IRREVERSIBLE)), st.integers(0, 5))
def test_a_model_with_one_quantizer_that_cannot_be_restored_stays_as_it_was(names, bad, position):
    model = network([*names, "ours", "our weight"], IRREVERSIBLE[bad], position)
    before = everything(model)
    with pytest.raises((TypeError, ValueError), match=r"\.act_quant"):
        restore_quantizers(model)
    assert_unchanged(model, before)


@pytest.mark.parametrize("convert", [swap_quantizers, restore_quantizers])
def test_a_selection_that_raises_half_way_has_changed_nothing(convert):
    model = network(["ours", "our weight"], GOOD["ours"], 2)
    before = everything(model)
    asked = []

    def where(name, proxy):
        asked.append(name)
        if len(asked) > 1:
            raise KeyError(name)
        return True

    with pytest.raises(KeyError):
        convert(model, where=where)
    assert_unchanged(model, before)


@pytest.mark.parametrize("bad", BAD)
def test_the_rest_is_converted_when_the_bad_one_is_left_out(bad):
    model = network(["int", "sign", "int weight"], BAD[bad], 0)
    report = swap_quantizers(model, weights=True, where=lambda name, proxy: name[0] != "0")
    assert len(report.changed) == 3
