"""MultiThreshold as affine function and Quant, run by QONNX's executor on every input there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brevitas.nn import QuantIdentity
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from brevitas_ftprop.export import ExportError
from brevitas_ftprop.export.hls4ml.threshold_quant import MultiThresholdToQuant
from brevitas_ftprop.levels import level_function
from brevitas_ftprop.quant import (
    TargetPropInt8ActPerTensorConst,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropSignedTernaryActPerTensorConst,
    TargetPropStaircase3ActPerTensorFixedPoint,
    TargetPropStaircase5ActPerTensorFixedPoint,
    TargetPropUint8ActPerTensorConst,
)

# Inputs are all multiples of 1/16 from −4 to 4 − 1/16: every threshold below is one of them.
KIND = "FIXED<7,3>"
QUANTIZERS = {
    "sign": QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst),
    "ternary": QuantIdentity(act_quant=TargetPropSignedTernaryActPerTensorConst),
    "staircase3": QuantIdentity(act_quant=TargetPropStaircase3ActPerTensorFixedPoint),
    "staircase5": QuantIdentity(act_quant=TargetPropStaircase5ActPerTensorFixedPoint),
    "uint2": QuantIdentity(act_quant=TargetPropUint8ActPerTensorConst, bit_width=2, max_val=3.0),
    "int3": QuantIdentity(
        act_quant=TargetPropInt8ActPerTensorConst, bit_width=3, min_val=-2.0, max_val=2.0
    ),
}


def every_input() -> np.ndarray:
    kind = DataType[KIND]
    return np.arange(kind.min(), kind.max() + kind.scale_factor(), kind.scale_factor(), np.float32)


def threshold_graph(thresholds, *, bias: float, scale: float, rows: int, kind: str | None = KIND):
    channels = thresholds.shape[0]
    node = helper.make_node(
        "MultiThreshold", ["x", "thresholds"], ["y"], "act", domain="qonnx.custom_op.general",
        out_dtype="INT8", out_bias=float(bias), out_scale=float(scale), data_layout="NC",
    )  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, channels]) for name in "xy"
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("qonnx.custom_op.general", 1)]
    graph = helper.make_graph([node], "thresholds", ends[:1], ends[1:])
    model = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
    model.set_initializer("thresholds", thresholds.astype(np.float32))
    if kind is not None:
        model.set_tensor_datatype("x", DataType[kind])
    return model.transform(InferShapes())


def run(model: ModelWrapper, x: np.ndarray) -> np.ndarray:
    return execute_onnx(model, {"x": x})["y"]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_input_ties_included_gives_the_level_of_pytorch(name):
    act = QUANTIZERS[name].eval()
    function = level_function(act.act_quant)
    values, x = function.level_values, every_input()[:, None]
    thresholds = function.thresholds().numpy()
    # A tie is a threshold that an input meets; `ceil` must not have reached its level there.
    assert np.isin(np.round(thresholds * 16) / 16, x).all()
    model = threshold_graph(
        thresholds, bias=values[0], scale=values[1] - values[0], rows=len(x)
    ).transform(MultiThresholdToQuant())
    expected = function.levels(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(run(model, x), expected)
    assert "MultiThreshold" not in [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers_saturate_only_at_the_ends_of_their_types(name):
    function = level_function(QUANTIZERS[name].act_quant)
    values = function.level_values
    model = threshold_graph(
        function.thresholds().numpy(), bias=values[0], scale=values[1] - values[0], rows=1
    ).transform(MultiThresholdToQuant())
    quants = [node for node in model.graph.node if node.op_type == "Quant"]
    # Five steps do not fill three bits, so they need a quantizer for each end.
    assert len(quants) == (2 if name == "staircase5" else 1)


def test_channels_have_thresholds_of_their_own():
    thresholds = np.array([[-1, 0, 1], [0, 1, 2], [-np.inf, 0, np.inf]], dtype=np.float32)
    x = np.repeat(every_input()[:, None], 3, axis=1)
    before = threshold_graph(thresholds, bias=0, scale=1, rows=len(x))
    after = before.transform(MultiThresholdToQuant())
    np.testing.assert_array_equal(run(after, x), run(before, x))


def test_a_factor_of_one_or_minus_one_in_front_is_taken_in():
    x = np.repeat(every_input()[:, None], 2, axis=1)
    before = threshold_graph(np.array([[-1, 0, 1]] * 2), bias=0, scale=1, rows=len(x))
    before.set_initializer("factor", np.array([[1, -1]], dtype=np.float32))
    before.graph.node[0].input[0] = "turned"
    before.graph.node.insert(0, helper.make_node("Mul", ["x", "factor"], ["turned"], "turn"))
    before = before.transform(InferShapes())
    after = before.transform(MultiThresholdToQuant())
    assert [node.op_type for node in after.graph.node] == ["BatchNormalization", "Quant"]
    np.testing.assert_array_equal(run(after, x), run(before, x))


def test_an_input_without_a_type_is_refused():
    model = threshold_graph(np.array([[0.0]]), bias=-1, scale=2, rows=1, kind=None)
    with pytest.raises(ExportError, match="act: the type of its input x is not annotated"):
        model.transform(MultiThresholdToQuant())


def test_uneven_thresholds_are_refused():
    model = threshold_graph(np.array([[0.0, 0.25, 3.0]]), bias=0, scale=1, rows=1)
    with pytest.raises(ExportError, match="act: the thresholds of channel 0 are not evenly spaced"):
        model.transform(MultiThresholdToQuant())
