"""What breaks a graph is caught at the step that breaks it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export import VerificationError
from brevitas_ftprop.export.finn import export_finn

pytest.importorskip("finn", reason="needs the extra 'finn'")

SHAPE = (3, 8, 8)


def network(act: str, bits: int) -> nn.Module:
    """Signs or staircases, padded binary or 2-bit convolutions, exact sums."""
    torch.manual_seed(1)
    weights = {
        1: {"weight_quant": quant.TargetPropSignedBinaryWeightPerTensorUnit},
        2: {"weight_quant": quant.TargetPropInt8WeightPerTensorFixedPoint, "weight_bit_width": 2},
    }[bits]
    activation = {
        "sign": quant.TargetPropSignedBinaryActPerTensorConst,
        "staircase": quant.TargetPropStaircase3ActPerTensorFixedPoint,
    }[act]
    model = nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropInt8ActPerTensorFixedPoint),
        QuantConv2d(3, 6, 3, padding=1, bias=False, **weights),
        nn.BatchNorm2d(6),
        QuantIdentity(act_quant=activation),
        QuantConv2d(6, 6, 3, padding=1, bias=False, **weights),
        nn.BatchNorm2d(6),
        QuantIdentity(act_quant=activation),
        nn.Flatten(),
        QuantLinear(
            6 * 8 * 8,
            4,
            bias=False,
            weight_quant=quant.TargetPropInt8WeightPerTensorFixedPoint,
            weight_bit_width=4,
        ),
    )
    for norm in (model[2], model[5]):
        norm.momentum = 0.5
    for _ in range(8):
        model(torch.randn(16, *SHAPE))
    return model.eval()


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """Run the flow with a change behind one step, and return the error and the report."""

    def run(step: str, change, *, act="staircase", bits=2):
        from brevitas_ftprop.export.finn import flow_steps

        original = flow_steps.STEPS[step]
        monkeypatch.setitem(
            flow_steps.STEPS,
            step,
            lambda model, io, config: change(original(model, io, config)) or model,
        )
        with pytest.raises(VerificationError) as caught:
            export_finn(
                network(act, bits),
                torch.randn(1, *SHAPE),
                tmp_path / "out",
                batch=torch.randn(24, *SHAPE),
                dynamo=False,
                progress=False,
            )
        assert not (tmp_path / "out").exists()
        unfinished = tmp_path / "out.unfinished"
        report = json.loads((unfinished / "report.json").read_text())
        assert report["status"] == "failed"
        assert str(unfinished) in str(caught.value)
        assert (unfinished / report["steps"][-1]["file"]).is_file()
        assert all(step["first_difference"] is None for step in report["steps"][:-1])
        return str(caught.value), report["steps"][-1]

    return run


def thresholds_of(model, quantizer: str):
    """Name and value of the thresholds of a quantizer of the model."""
    for node in model.graph.node:
        if any(entry.value == quantizer for entry in node.metadata_props):
            return node.input[1], model.get_initializer(node.input[1]).copy()
    raise LookupError(quantizer)


def move(quantizer: str, by: float):
    """Move the middle threshold of one channel."""

    def change(model):
        name, thresholds = thresholds_of(model, quantizer)
        if thresholds.shape[0] == 1:
            thresholds = thresholds.repeat(6, axis=0)
        thresholds[2, 1] += by
        model.set_initializer(name, thresholds)
        return model

    return change


@pytest.mark.slow
@pytest.mark.parametrize(("act", "bits"), [("staircase", 2), ("sign", 1)])
def test_the_unbroken_network_goes_through(act, bits, tmp_path):
    report = export_finn(
        network(act, bits), torch.randn(1, *SHAPE), tmp_path / act, dynamo=False, progress=False
    )
    assert report.ok, str(report)


@pytest.mark.slow
def test_a_threshold_of_one_channel_moved_by_an_integer_after_streamlining(broken):
    message, step = broken("streamlined", move("6.act_quant", 1))
    assert step["name"] == "streamlined"
    assert "6.act_quant" in step["first_difference"]
    assert "step streamlined" in message


@pytest.mark.slow
def test_a_threshold_of_one_channel_moved_by_a_thousandth_before_streamlining(broken):
    # A step of this quantizer is 1/2 wide.
    message, step = broken("finn", move("3.act_quant", 0.001 / 2))
    assert step["name"] == "finn"
    assert "3.act_quant" in step["first_difference"]
    assert "step finn" in message


def test_what_is_excused_is_listed_and_set_right_before_the_layers_behind_it(monkeypatch, tmp_path):
    from brevitas_ftprop.export.finn import flow_steps, oracle

    original = flow_steps.STEPS["streamlined"]

    def out_of_reach(*given):
        model = original(*given)
        name, thresholds = thresholds_of(model, "3.act_quant")
        thresholds[2] += 1000
        model.set_initializer(name, thresholds)
        return model

    monkeypatch.setitem(flow_steps.STEPS, "streamlined", out_of_reach)
    # Every unit may differ: rounding could move it over all thresholds.
    monkeypatch.setattr(oracle, "outward", lambda z: (z.value - 1e3, z.value + 1e3))
    report = export_finn(
        network("staircase", 2),
        torch.randn(1, *SHAPE),
        tmp_path / "out",
        batch=torch.randn(24, *SHAPE),
        dynamo=False,
        progress=False,
    )
    before, step = report.steps[2:4]
    assert step.excused == len(step.excused_units) > 0
    assert before.excused == 0
    for unit in step.excused_units:
        assert (unit.quantizer, unit.position[:2]) == ("3.act_quant", (0, 2))
        assert unit.found == 0 < unit.expected
    assert step.compared == before.compared
    assert step.images == 24
    assert step.wrong_outputs == 0
    assert step.max_difference < 1e-6
    # The class is the graph's own, with nothing set right.
    assert step.same_class < 24


@pytest.mark.slow
def test_a_quant_node_that_rounds_up_where_finn_rounds(broken):
    """FINN ignores the rounding mode: its own conversion of a CEIL node gives other thresholds."""

    def to_ceil(model):
        name, _ = thresholds_of(model, "3.act_quant")
        node = next(node for node in model.graph.node if name in node.input)
        source, result = node.input[0], node.output[0]
        position = list(model.graph.node).index(node)
        constants = []
        for value in (0.5, 0.0, 2.0):
            constants.append(model.make_new_valueinfo_name())
            model.set_initializer(constants[-1], np.float32(value))
        integers = model.make_new_valueinfo_name()
        model.set_tensor_shape(integers, model.get_tensor_shape(result))
        quantizer = onnx.helper.make_node(
            "Quant",
            [source, *constants],
            [integers],
            domain="qonnx.custom_op.general",
            signed=0,
            narrow=0,
            rounding_mode="CEIL",
        )
        two = model.make_new_valueinfo_name()
        model.set_initializer(two, np.float32(2))
        model.graph.node.remove(node)
        model.graph.node.insert(position, quantizer)
        model.graph.node.insert(
            position + 1, onnx.helper.make_node("Mul", [integers, two], [result])
        )
        return model

    message, step = broken("forms", to_ceil)
    assert step["name"] == "finn"
    assert "step finn" in message


def test_the_xnor_pass_under_padding(broken):
    """A padded 0 is no ±1: xnor and popcount count it as one."""

    def to_xnor(model):
        from qonnx.core.datatype import DataType
        from qonnx.custom_op.registry import getCustomOp
        from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount

        for node in list(model.graph.node):
            if node.op_type == "MultiThreshold" and node.name != "MultiThreshold_0":
                name = node.input[1]
                model.set_initializer(name, model.get_initializer(name)[:, :1])
                getCustomOp(node).set_nodeattr("out_dtype", "BIPOLAR")
                getCustomOp(node).set_nodeattr("out_scale", 2.0)
                model.set_tensor_datatype(node.output[0], DataType["BIPOLAR"])
            # QONNX calls a padded Im2Col of ±1 no longer bipolar; here it is told otherwise.
            if node.op_type == "Im2Col" and node.name != "Im2Col_0":
                model.set_tensor_datatype(node.output[0], DataType["BIPOLAR"])
        model = model.transform(ConvertBipolarMatMulToXnorPopcount())
        assert "XnorPopcountMatMul" in {node.op_type for node in model.graph.node}
        return model

    message, step = broken("streamlined", to_xnor, act="sign", bits=1)
    assert step["name"] == "streamlined"
    assert "step streamlined" in message
