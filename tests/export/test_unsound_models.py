"""Models with values that are not finite, or weights without levels, are refused by name."""

from __future__ import annotations

import brevitas.nn as qnn
import brevitas.quant as stock
import pytest
import torch
from brevitas.export.inference import quant_inference_mode
from brevitas.quant.experimental.float import Fp8e4m3ActPerTensorFloat
from brevitas_examples.common.generative.quantizers import Int8DynamicActPerTensorFloat
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export import ExportError, check_deployable, export_qcdq, export_qonnx
from brevitas_ftprop.levels import level_function

EXPORTS = pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
EXAMPLE = torch.randn(1, 4, generator=torch.Generator().manual_seed(1))
WEIGHT = quant.TargetPropInt8WeightPerTensorFixedPoint


def network() -> nn.Module:
    model = nn.Sequential(
        qnn.QuantIdentity(return_quant_tensor=True),
        qnn.QuantLinear(4, 3, bias=True, weight_quant=WEIGHT),
        nn.BatchNorm1d(3),
    )
    with torch.no_grad():
        model(torch.randn(8, 4))
    return model.eval()


@EXPORTS
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["1.weight", "1.bias", "2.running_var", "2.weight"])
def test_a_value_that_is_not_finite_is_refused_by_its_name(export, value, name, tmp_path):
    model = network()
    with torch.no_grad():
        model.state_dict()[name][0] = value
    with pytest.raises(ValueError, match=f"the model's {name} holds values that are not finite"):
        export(model, EXAMPLE, tmp_path / "model.onnx", dynamo=False)
    assert not list(tmp_path.iterdir())
    assert not check_deployable(model, EXAMPLE, "qcdq", dynamo=False).ok


@EXPORTS
def test_a_scale_that_overflows_is_refused_by_its_quantizer(export, tmp_path):
    act = qnn.QuantIdentity(stock.Int8ActPerTensorFixedPoint, collect_stats_steps=1)
    model = nn.Sequential(act, qnn.QuantLinear(4, 2, bias=False))
    with torch.no_grad():
        for _ in range(2):
            model(EXAMPLE)
        # Its logarithm, which is finite.
        act.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value.fill_(200.0)
    with pytest.raises(ExportError, match=r"0.act_quant: its scale is not a positive finite"):
        export(model.eval(), EXAMPLE, tmp_path / "model.onnx", dynamo=False)
    (finding,) = check_deployable(model, EXAMPLE, "qcdq", dynamo=False).errors
    assert finding.layer == "0.act_quant"


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@EXPORTS
@pytest.mark.parametrize(
    ("act", "weight", "name"),
    [
        (None, stock.Int8WeightNormL2PerChannelFixedPoint, "1.weight_quant"),
        (None, stock.Int8AccumulatorAwareWeightQuant, "1.weight_quant"),
        (None, stock.Int8AccumulatorAwareZeroCenterWeightQuant, "1.weight_quant"),
        (Fp8e4m3ActPerTensorFloat, WEIGHT, "0.act_quant"),
        (Int8DynamicActPerTensorFloat, WEIGHT, "0.act_quant"),
    ],
    ids=["weight norm", "A2Q", "A2Q+", "float", "dynamic"],
)
def test_quantizers_without_integer_levels_are_refused_by_name(
    export, act, weight, name, dynamo, tmp_path
):
    act = stock.Int8ActPerTensorFixedPoint if act is None else act
    model = nn.Sequential(
        qnn.QuantIdentity(act, return_quant_tensor=True),
        qnn.QuantLinear(4, 3, bias=False, weight_quant=weight),
    )
    with torch.no_grad():
        model(EXAMPLE)
    with pytest.raises(ExportError, match=f"^export failed: {name}: "):
        export(model.eval(), EXAMPLE, tmp_path / "model.onnx", dynamo=dynamo)
    assert not list(tmp_path.iterdir())
    for target in ("finn", "hls4ml", "qcdq"):
        (finding,) = check_deployable(model, EXAMPLE, target, dynamo=dynamo).errors
        assert (finding.requirement, finding.layer) == ("quantizer-levels", name)


@pytest.mark.parametrize(
    "weight", [stock.Int8WeightNormL2PerChannelFixedPoint, stock.Int8AccumulatorAwareWeightQuant]
)
def test_decoupled_weights_have_no_level_function(weight):
    layer = qnn.QuantLinear(4, 3, bias=False, weight_quant=weight)
    with pytest.raises(TypeError, match="decoupled weight quantizers"):
        level_function(layer.weight_quant)


ACTS = {
    "int8": qnn.QuantIdentity(quant.TargetPropInt8ActPerTensorFloat),
    "relu": qnn.QuantReLU(quant.TargetPropUint8ActPerTensorFloat, bit_width=2),
    "shifted": qnn.QuantIdentity(quant.TargetPropShiftedUint8ActPerTensorFloat),
    "staircase": qnn.QuantIdentity(quant.TargetPropStaircase3ActPerTensorConst),
    "sign": qnn.QuantIdentity(quant.TargetPropSignedBinaryActPerTensorConst),
    "ternary": qnn.QuantIdentity(quant.TargetPropSignedTernaryActPerTensorConst),
}


@pytest.mark.parametrize("name", ACTS)
def test_inference_mode_gives_what_the_quantizer_gives_where_values_are_not_finite(name):
    act = ACTS[name]
    act(torch.randn(64))
    act.eval()
    values = torch.tensor([torch.nan, 0.3, torch.inf, -torch.inf, torch.nan])
    expected = act(values)
    with torch.no_grad(), quant_inference_mode(act):
        found = act(values)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    if name in ("int8", "relu", "shifted", "staircase"):
        assert bool(found[[0, 4]].isnan().all())
