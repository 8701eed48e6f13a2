"""What cannot be converted is refused before anything is changed."""

import brevitas.quant
import brevitas.quant.fixed_point
import pytest
import torch
from brevitas.export.inference import quant_inference_mode
from brevitas.export.onnx.qonnx.manager import QONNXManager
from brevitas.nn import QuantIdentity, QuantLinear
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
)
from brevitas.quant.float import Fp8e4m3ActPerTensorFloat, Fp8e4m3WeightPerTensorFloat
from brevitas.quant.mx_quant_ocp import MXFloat8e4m3Act, MXInt8Act, MXInt8Weight
from torch import nn

from brevitas_ftprop import RULES, quant, restore_quantizers, swap_quantizers
from brevitas_ftprop.core import TargetPropTernaryQuant
from brevitas_ftprop.quant.target_prop import TargetPropAct
from tests.convert.mixed_network import TARGET_PROP, batch, mixed, proxies, snapshot


@pytest.mark.parametrize("model", ["model", None])
def test_what_is_no_module_is_refused(model):
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        swap_quantizers(model)


REFUSED = {
    "float activation": lambda: QuantIdentity(act_quant=Fp8e4m3ActPerTensorFloat),
    "groupwise activation": lambda: QuantIdentity(act_quant=MXInt8Act, group_dim=1, group_size=4),
    "groupwise float activation": lambda: QuantIdentity(
        act_quant=MXFloat8e4m3Act, group_dim=1, group_size=4
    ),
    "float weight": lambda: QuantLinear(8, 4, False, weight_quant=Fp8e4m3WeightPerTensorFloat),
    "groupwise weight": lambda: QuantLinear(
        8, 4, False, weight_quant=MXInt8Weight, weight_group_size=4
    ),
    "decoupled weight": lambda: QuantLinear(
        8, 4, False, weight_quant=brevitas.quant.fixed_point.Int4WeightPerTensorFixedPointDecoupled
    ),
    "normed weight": lambda: QuantLinear(
        8, 4, False, weight_quant=brevitas.quant.Int8WeightNormL2PerChannelFixedPoint
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_quantizer_without_a_rule_is_refused_before_anything_is_changed(kind):
    model = nn.Sequential(
        QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
        QuantLinear(8, 8, False, weight_quant=Int8WeightPerTensorFloat),
        REFUSED[kind](),
    )
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"2\.\w+_quant .*where="):
        swap_quantizers(model, weights=True)
    assert snapshot(model) == before
    report = swap_quantizers(model, weights=True, where=lambda name, proxy: name[0] != "2")
    assert len(report.changed) == 2


def test_an_unknown_rule_is_refused_with_the_list_of_valid_ones():
    model = mixed()
    before = snapshot(model)
    with pytest.raises(ValueError, match="soft_hinge") as error:
        swap_quantizers(model, "no_such_rule")
    assert all(name in str(error.value) for name in RULES)
    with pytest.raises(ValueError, match="soft_hinge"):
        swap_quantizers(model, "hinge", weights=True, weight_rule="no_such_rule")
    assert snapshot(model) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "sum"}, "grad, mean"),
        ({"staircase": "both"}, "single, sum"),
        ({"weighting": "mean", "weights": True}, "not a batch"),
        ({"weight_rule": "ste"}, "weights=True"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_changed(options, message):
    model = mixed()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        swap_quantizers(model, **options)
    assert snapshot(model) == before


@pytest.mark.parametrize("convert", [swap_quantizers, restore_quantizers])
@pytest.mark.parametrize("model", [nn.Linear(3, 3), nn.Sequential(), nn.Identity()], ids=repr)
def test_a_model_without_brevitas_layers_is_refused(convert, model):
    with pytest.raises(ValueError, match="no Brevitas quantizers"):
        convert(model)


def test_a_model_in_export_mode_is_refused_and_left_as_it_was():
    model = mixed().eval()
    model(batch(0))
    QONNXManager.set_export_mode(model, enabled=True)
    before = snapshot(model)
    with pytest.raises(ValueError, match="export or inference mode"):
        swap_quantizers(model)
    assert snapshot(model) == before
    QONNXManager.set_export_mode(model, enabled=False)


def test_a_model_in_quant_inference_mode_is_refused():
    model = nn.Sequential(QuantIdentity(act_quant=Int8ActPerTensorFloat), nn.Linear(3, 3))
    model(torch.randn(2, 3))
    model.eval()
    with torch.no_grad(), quant_inference_mode(model):
        model(torch.randn(2, 3))
        before = snapshot(model)
        with pytest.raises(ValueError, match="export or inference mode"):
            swap_quantizers(model)
        assert snapshot(model) == before
    swap_quantizers(model)


@pytest.mark.parametrize("convert", [swap_quantizers, restore_quantizers])
@pytest.mark.parametrize("which", ["activation", "weight"])
def test_a_compiled_quantizer_is_refused_before_anything_is_changed(convert, which):
    model = mixed()
    if convert is restore_quantizers:
        swap_quantizers(model, weights=True)
    proxy = model.head.output_quant if which == "activation" else model.head.weight_quant
    proxy.compile_quant()
    before = snapshot(model)
    with pytest.raises(TypeError, match="compiled"):
        convert(model) if convert is restore_quantizers else convert(model, weights=True)
    assert snapshot(model) == before


def test_a_compiled_model_is_refused_or_converted_in_its_original():
    model = torch.compile(mixed())
    report = swap_quantizers(model)
    assert report.changed
    assert proxies(model, TARGET_PROP)


def test_an_own_quantizer_without_a_stock_class_is_refused_before_anything_is_changed():
    class Ternary(TargetPropAct, brevitas.quant.SignedTernaryActPerTensorConst):
        tensor_quant = TargetPropTernaryQuant
        threshold = 0.5

    model = nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst),
        QuantIdentity(act_quant=Ternary),
    )
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"1\.act_quant .* bind stock_quant_class"):
        restore_quantizers(model)
    assert snapshot(model) == before


def test_the_papers_staircases_cannot_be_restored_and_nothing_is_changed():
    model = nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst),
        QuantIdentity(act_quant=quant.TargetPropStaircase3ActPerTensorConst),
    )
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"1\.act_quant is one of the paper's staircases"):
        restore_quantizers(model)
    assert snapshot(model) == before
    assert len(restore_quantizers(model, where="0.*").changed) == 1
