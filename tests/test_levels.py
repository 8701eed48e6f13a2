"""Frozen quantizers against the quantizers' own forward pass, for ours and stock alike."""

import brevitas.quant
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryActPerTensorConst,
    Uint8ActPerTensorFloatMaxInit,
)
from brevitas.quant.float import Fp8e4m3ActPerTensorFloat

from brevitas_ftprop import quant
from brevitas_ftprop.levels import level_function, tensor_quant_of

CHANNELS = 3
STOCK_ACTS = {
    "stock_binary": (SignedBinaryActPerTensorConst, {"max_val": 0.7, "min_val": -0.7}),
    "stock_ternary_integer": (SignedTernaryActPerTensorConst, {"max_val": 0.7, "min_val": -0.7}),
    "stock_ternary": (
        SignedBinaryActPerTensorConst,
        {"quant_type": "ternary", "threshold": 0.5, "max_val": 0.7, "min_val": -0.7},
    ),
    "stock_int": (Int8ActPerTensorFloat, {"bit_width": 3, "collect_stats_steps": 1}),
    "stock_shifted": (ShiftedUint8ActPerTensorFloat, {"bit_width": 3, "collect_stats_steps": 1}),
    "stock_ceil": (
        Uint8ActPerTensorFloatMaxInit,
        {"bit_width": 2, "max_val": 2.0, "float_to_int_impl_type": "ceil"},
    ),
    "stock_floor": (
        Uint8ActPerTensorFloatMaxInit,
        {"bit_width": 2, "max_val": 2.0, "float_to_int_impl_type": "floor"},
    ),
    "stock_towards_zero": (
        Int8ActPerTensorFloat,
        {"bit_width": 3, "collect_stats_steps": 1, "float_to_int_impl_type": "round_to_zero"},
    ),
}


def our_options(name):
    options = {"collect_stats_steps": 1} if "Staircase" not in name else {}
    if "Staircase" not in name and ("Const" in name or "Init" in name or "Binary" in name):
        options = {"max_val": 0.7, "min_val": -0.7}
    if not any(kind in name for kind in ("Binary", "Ternary", "Staircase")):
        options["bit_width"] = 4
    if "PerChannel" in name:
        options["per_channel_broadcastable_shape"] = (1, CHANNELS, 1, 1)
        options["scaling_stats_permute_dims"] = (1, 0, 2, 3)
    return options


ACTS = STOCK_ACTS | {
    name: (getattr(quant, name), our_options(name)) for name in quant.__all__ if "Act" in name
}


def trained_act(name):
    quantizer, options = ACTS[name]
    act = QuantIdentity(act_quant=quantizer, return_quant_tensor=True, **options)
    channels = torch.tensor([1.0, 3.0, 9.0]).view(1, CHANNELS, 1, 1)
    for _ in range(3):
        act(torch.randn(4, CHANNELS, 6, 6) * channels)
    return act.eval()


def probing(function):
    """Values around every threshold, ties included, and random ones."""
    thresholds = function.thresholds().T
    shape = (len(thresholds), thresholds.shape[1], 1, 1)
    exact = thresholds.reshape(shape).expand(-1, CHANNELS, -1, 4).clone()
    near = [exact, exact.nextafter(exact - 1), exact.nextafter(exact + 1)]
    specials = torch.tensor([0.0, -0.0, 1e30, -1e30]).expand(1, CHANNELS, 1, 4)
    return torch.cat([*near, specials, torch.randn(8, CHANNELS, 1, 4) * 5])


@pytest.mark.parametrize("name", ACTS)
def test_levels_dequantize_to_the_forward_of_the_quantizer(name):
    act = trained_act(name)
    function = level_function(act.act_quant)
    x = probing(function)
    levels = function.levels(x)
    assert torch.equal(levels, levels.round())
    assert set(levels.unique().int().tolist()) <= set(function.level_values)
    torch.testing.assert_close(function.dequantize(levels), act(x).value, rtol=3e-7, atol=0)
    assert torch.equal(levels, (act(x).value / function.scale + function.zero_point).round())


@pytest.mark.parametrize("name", ACTS)
def test_counting_thresholds_gives_the_levels(name):
    function = level_function(trained_act(name).act_quant)
    x = probing(function)
    thresholds = function.thresholds()
    assert thresholds.shape == (function.channels, len(function.level_values) - 1)
    assert thresholds.dtype is torch.float32
    reached = x.unsqueeze(-1) >= thresholds.view(1, function.channels, 1, 1, -1)
    values = torch.tensor(function.level_values, dtype=torch.float32)
    assert torch.equal(function.levels(x), values[reached.sum(-1)])


@pytest.mark.parametrize("name", ACTS)
def test_metadata_is_that_of_the_quant_tensor(name):
    act = trained_act(name)
    function = level_function(act.act_quant)
    y = act(torch.randn(2, CHANNELS, 2, 2))
    assert torch.equal(function.scale, y.scale)
    assert torch.equal(function.zero_point, y.zero_point)
    assert function.bit_width == y.bit_width
    assert function.signed == y.signed
    assert list(function.level_values) == sorted(function.level_values)


def test_known_thresholds():
    def thresholds(quantizer, **options):
        return level_function(QuantIdentity(act_quant=quantizer, **options).act_quant).thresholds()

    tiny = torch.tensor(0.0).nextafter(torch.tensor(1.0)).item()
    one_up = torch.tensor(1.0).nextafter(torch.tensor(2.0)).item()
    half_up = torch.tensor(0.5).nextafter(torch.tensor(1.0)).item()
    sign = thresholds(quant.TargetPropSignedBinaryActPerTensorConst)
    assert sign.tolist() == [[0.0]]
    staircase = thresholds(quant.TargetPropStaircase3ActPerTensorConst)
    assert staircase.tolist() == [[tiny, half_up, one_up]]
    ties = thresholds(quant.TargetPropUint8ActPerTensorConst, bit_width=2, max_val=3.0)
    before = torch.tensor(1.5).item()
    beyond = torch.tensor(2.5).nextafter(torch.tensor(3.0)).item()
    assert ties.tolist() == [[half_up, before, beyond]]


@pytest.mark.parametrize(
    "quantizer",
    [
        *(getattr(quant, name) for name in quant.__all__ if "Weight" in name),
        Int8WeightPerChannelFloat,
        SignedBinaryWeightPerTensorConst,
    ],
    ids=lambda q: q.__name__,
)
def test_weight_levels_dequantize_to_the_quantized_weight(quantizer):
    layer = QuantConv2d(3, 4, 3, weight_quant=quantizer).eval()
    function = level_function(layer.weight_quant)
    with torch.no_grad():
        expected = layer.quant_weight()
        levels = function.levels(layer.weight)
        torch.testing.assert_close(function.dequantize(levels), expected.value, rtol=3e-7, atol=0)
    assert function.bit_width == expected.bit_width
    assert set(levels.unique().int().tolist()) <= set(function.level_values)


def test_a_float_quantizer_has_no_levels():
    act = QuantIdentity(act_quant=Fp8e4m3ActPerTensorFloat)
    with pytest.raises(TypeError, match="integer"):
        level_function(act.act_quant)


def test_a_disabled_quantizer_has_no_levels():
    with pytest.raises(ValueError, match="disabled"):
        level_function(QuantIdentity(act_quant=None).act_quant)


def test_a_delayed_quantizer_has_no_levels_until_the_delay_is_over():
    act = QuantIdentity(act_quant=SignedBinaryActPerTensorConst, quant_delay_steps=2)
    with pytest.raises(ValueError, match="another 2 steps"):
        level_function(act.act_quant)
    for _ in range(3):
        act(torch.randn(2))
    assert level_function(act.act_quant).level_values == (-1, 1)


def test_a_disabled_proxy_has_no_tensor_quant():
    assert tensor_quant_of(QuantIdentity(act_quant=None).act_quant) is None
    layer = QuantConv2d(3, 4, 3, weight_quant=None)
    assert tensor_quant_of(layer.weight_quant) is None
    assert brevitas.quant is not None
