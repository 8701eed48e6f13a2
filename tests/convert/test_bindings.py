"""What is bound into a live quantizer's injector after a conversion works, or is refused."""

import brevitas.config
import pytest
import torch
from brevitas.core.function_wrapper import TensorClamp
from brevitas.core.function_wrapper.learned_round import (
    LearnedRoundHardSigmoid,
    LearnedRoundIdentity,
    LearnedRoundSigmoid,
    LearnedRoundSte,
)
from brevitas.core.quant import IntQuant, RescalingIntQuant
from brevitas.inject.enum import FloatToIntImplType, QuantType, ScalingImplType
from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from torch import nn

from brevitas_ftprop import restore_quantizers, swap_quantizers
from brevitas_ftprop.levels import tensor_quant_of
from tests.convert.mixed_network import same_values, snapshot, values

LEARNED = {
    "float_to_int_impl": LearnedRoundSte,
    "learned_round_impl": LearnedRoundSigmoid,
    "learned_round_init": torch.zeros(3, 5),
}


class HalfClamp(TensorClamp):
    """Clamps and scales, as no rule does."""

    def forward(self, x, min_val, max_val):
        return super().forward(x, min_val, max_val) / 2


class OwnRound(nn.Module):
    """Rounds to even numbers."""

    def __init__(self):
        super().__init__()

    def forward(self, x):
        return 2 * torch.round(x / 2)


def converted_weight(quant=Int8WeightPerTensorFloat):
    layer = QuantLinear(5, 3, bias=False, weight_quant=quant)
    swap_quantizers(layer, "ste", weights=True, activations=False)
    return layer.eval(), layer.weight_quant


def converted_act(quant=Int8ActPerTensorFloat, kind=QuantIdentity):
    act = kind(act_quant=quant, max_val=1.0, min_val=-1.0)
    act(torch.randn(4, 5))
    swap_quantizers(act, "saturated_ste")
    return act.eval(), act.act_quant


def bind(proxy, **bindings):
    proxy.quant_injector = proxy.quant_injector.let(**bindings)
    proxy.init_tensor_quant()


REFUSED = {
    "learned rounding": (LEARNED, "learns its rounding"),
    "hard learned rounding": (
        LEARNED
        | {
            "learned_round_impl": LearnedRoundHardSigmoid,
            "learned_round_gamma": 1.1,
            "learned_round_zeta": -0.1,
        },
        "learns its rounding",
    ),
    "identity learned rounding": (
        LEARNED | {"learned_round_impl": LearnedRoundIdentity},
        "learns its rounding",
    ),
    "by its type": (
        {
            "float_to_int_impl_type": FloatToIntImplType.LEARNED_ROUND,
            "learned_round_impl_type": "sigmoid",
            "learned_round_init": torch.zeros(3, 5),
        },
        "learns its rounding",
    ),
    "a clamp": ({"tensor_clamp_impl": HalfClamp}, "would leave out what HalfClamp does"),
    "a stock quantizer": ({"tensor_quant": RescalingIntQuant, "int_quant": IntQuant}, "IntQuant"),
    "a stock integer quantizer": ({"int_quant": IntQuant}, "IntQuant is bound in place"),
    "another type": ({"quant_type": QuantType.BINARY}, "quant_type asks for BINARY"),
    "another type by name": ({"quant_type": "ternary"}, "quant_type asks for TERNARY"),
    "no type": ({"quant_type": None}, "quant_type asks for NONE"),
    "an unknown rule": ({"rule": "no_rule"}, "unknown rule"),
}


@pytest.mark.parametrize("made", [converted_weight, converted_act], ids=["weight", "activation"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_binding_that_a_rule_would_leave_dead_is_refused_and_undone(kind, made):
    layer, proxy = made()
    bindings, message = REFUSED[kind]
    x = torch.randn(4, 5)
    y, state, modules = layer(x), values(layer), snapshot(layer)["modules"]
    injector = proxy.quant_injector
    flags = brevitas.config.REINIT_ON_STATE_DICT_LOAD, brevitas.config.IGNORE_MISSING_KEYS
    with pytest.raises((TypeError, ValueError), match=message):
        bind(proxy, **bindings)
    with pytest.raises((TypeError, ValueError), match=message):
        layer.load_state_dict(layer.state_dict())
    assert snapshot(layer)["modules"] == modules
    same_values(state, layer.state_dict())
    assert torch.equal(layer(x), y)
    assert flags == (
        brevitas.config.REINIT_ON_STATE_DICT_LOAD,
        brevitas.config.IGNORE_MISSING_KEYS,
    )
    proxy.quant_injector = injector
    layer.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), y)


def test_a_refusal_leaves_the_settings_that_a_kept_state_dict_changes():
    _, proxy = converted_weight()
    proxy.quant_injector = proxy.quant_injector.let(**LEARNED)
    flags = brevitas.config.REINIT_ON_STATE_DICT_LOAD, brevitas.config.IGNORE_MISSING_KEYS
    with pytest.raises(TypeError, match="learns its rounding"):
        proxy.init_tensor_quant(preserve_state_dict=True)
    assert flags == (
        brevitas.config.REINIT_ON_STATE_DICT_LOAD,
        brevitas.config.IGNORE_MISSING_KEYS,
    )


@pytest.mark.parametrize(
    ("made", "quant", "bindings"),
    [
        (converted_weight, SignedBinaryWeightPerTensorConst, {"tensor_clamp_impl": HalfClamp}),
        (converted_act, SignedBinaryActPerTensorConst, {"tensor_clamp_impl": HalfClamp}),
        (converted_weight, SignedBinaryWeightPerTensorConst, {"quant_type": QuantType.INT}),
        (converted_act, SignedBinaryActPerTensorConst, {"signed": False}),
    ],
)
def test_a_binary_quantizer_refuses_what_it_would_leave_out(made, quant, bindings):
    _, proxy = made(quant)
    before = tensor_quant_of(proxy)
    with pytest.raises((TypeError, ValueError)):
        bind(proxy, **bindings)
    assert tensor_quant_of(proxy) is before


def test_learned_rounding_set_on_a_live_quantizer_is_refused_when_it_is_called():
    layer, proxy = converted_weight()
    proxy.tensor_quant.int_quant.float_to_int_impl = LearnedRoundSte(
        LearnedRoundSigmoid(), torch.zeros(3, 5), nn.Identity()
    )
    with pytest.raises(TypeError, match="learns its rounding"):
        layer(torch.randn(2, 5))


WORKING = {
    "bit width": {"bit_width": 3},
    "learned bit width": {"bit_width_impl_type": "parameter", "bit_width": 4},
    "narrow": {"narrow_range": True},
    "floor": {"float_to_int_impl_type": FloatToIntImplType.FLOOR},
    "own rounding": {"float_to_int_impl": OwnRound},
    "clamp": {"tensor_clamp_impl": TensorClamp},
    "constant scale": {"scaling_impl_type": ScalingImplType.CONST, "scaling_init": 0.7},
    "learned scale": {"scaling_impl_type": ScalingImplType.PARAMETER, "scaling_init": 0.7},
    "fixed point": {"restrict_scaling_type": "power_of_two"},
    "delay": {"quant_delay_steps": 2},
}


@pytest.mark.parametrize("made", [converted_weight, converted_act], ids=["weight", "activation"])
@pytest.mark.parametrize("kind", WORKING)
def test_a_binding_that_works_gives_what_stock_gives(kind, made):
    layer, proxy = made()
    bind(proxy, **WORKING[kind])
    x = torch.randn(4, 5)
    found = [layer(x) for _ in range(3)]
    restore_quantizers(layer)
    proxy.init_tensor_quant()
    assert all(torch.equal(y, layer(x)) for y in found)


def test_a_rule_that_is_bound_takes_the_place_of_one_that_was_set():
    _, proxy = converted_act(Uint8ActPerTensorFloat, QuantReLU)
    proxy.rule = "hinge"
    proxy.saved = "compact"
    bind(proxy, rule="soft_hinge")
    assert (proxy.rule, proxy.saved) == ("soft_hinge", "compact")
    proxy.rule = "ramp"
    proxy.init_tensor_quant()
    assert (proxy.rule, proxy.saved) == ("ramp", "compact")
