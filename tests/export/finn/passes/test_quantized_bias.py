"""A quantized bias becomes the constant that it is, and a threshold takes it in to the last bit."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.core.function_wrapper import (
    CeilSte,
    FloorSte,
    Identity,
    RoundSte,
    RoundToZeroSte,
    TensorClamp,
)
from brevitas.core.quant import IntQuant
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8BiasPerTensorFloatInternalScaling,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int16Bias,
    Int24Bias,
    Int32Bias,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import nn

from brevitas_ftprop.export.finn.passes import AbsorbSummandIntoThresholds, FoldQuantizedBias
from brevitas_ftprop.export.qonnx import qonnx_graph

ROUNDINGS = {"ROUND": RoundSte, "CEIL": CeilSte, "FLOOR": FloorSte, "DOWN": RoundToZeroSte}
drawn = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def biased(layer: str, bias_quant: type, weight_quant: type, groups: int) -> nn.Module:
    options = {"bias": True, "bias_quant": bias_quant, "weight_quant": weight_quant}
    image = qnn.QuantIdentity(Int8ActPerTensorFixedPoint, bit_width=4, return_quant_tensor=True)
    if layer == "conv":
        return nn.Sequential(image, qnn.QuantConv2d(4, 4, 3, groups=groups, **options))
    return nn.Sequential(image, qnn.QuantLinear(4, 3, **options))


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize(
    ("layer", "bias_quant", "weight_quant", "groups"),
    [
        ("conv", Int32Bias, Int8WeightPerTensorFixedPoint, 1),
        ("conv", Int24Bias, Int8WeightPerChannelFloat, 2),
        ("conv", Int16Bias, Int8WeightPerChannelFloat, 4),
        ("linear", Int32Bias, Int8WeightPerChannelFloat, 1),
        ("linear", Int8BiasPerTensorFloatInternalScaling, Int8WeightPerTensorFixedPoint, 1),
    ],
)
def test_a_layer_of_either_exporter_reads_pytorchs_own_quantized_bias(
    layer, bias_quant, weight_quant, groups, dynamo
):
    torch.manual_seed(0)
    model = biased(layer, bias_quant, weight_quant, groups)
    x = torch.randn(1, 4, 5, 5) if layer == "conv" else torch.randn(1, 4)
    model(x)
    model.eval()
    expected = model(x).detach().numpy()
    graph = ModelWrapper(qonnx_graph(model, x, dynamo=dynamo)).transform(FoldQuantizedBias())
    (reader,) = (n for n in graph.graph.node if n.op_type in ("Conv", "Gemm"))
    (bias, *_) = model[1].bias_quant(model[1].bias, model[0](x), model[1].quant_weight())
    np.testing.assert_array_equal(graph.get_initializer(reader.input[2]), bias.detach().numpy())
    assert [n.op_type for n in graph.graph.node].count("Quant") == 2
    (found,) = execute_onnx(graph, {graph.graph.input[0].name: x.numpy()}).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@drawn
@given(
    st.sampled_from(["ROUND", "CEIL", "FLOOR", "DOWN"]),
    st.integers(2, 32),
    st.booleans(),
    st.lists(st.sampled_from([0.5, 0.125, 0.1, 0.3]), min_size=3, max_size=3),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_bias_on_ties_is_what_brevitas_makes_of_it(
    make_node, make_graph, mode, bits, narrow, scales, single, seed
):
    rng = np.random.default_rng(seed)
    scale = np.array(scales[:1] if single else scales, np.float32)
    bias = (rng.integers(-9, 9, 3) + rng.choice([0.0, 0.5], 3)).astype(np.float32) * scale
    options = {"signed": 1, "narrow": int(narrow), "rounding_mode": mode}
    constants = {"s": scale, "z": 0.0, "b": bits, "bias": bias, "w": rng.normal(size=(3, 2, 1, 1))}
    nodes = [
        make_node("Quant", ["bias", "s", "z", "b"], "q", **options),
        make_node("Conv", ["x", "w", "q"], "y", kernel_shape=[1, 1]),
    ]
    graph = make_graph(nodes, (1, 2, 2, 2), **constants).transform(FoldQuantizedBias())
    (conv,) = graph.graph.node
    quant = IntQuant(narrow, True, Identity(), ROUNDINGS[mode](), TensorClamp())
    parameters = torch.from_numpy(scale), torch.tensor(0.0), torch.tensor(float(bits))
    expected = quant(*parameters, torch.from_numpy(bias)).numpy()
    np.testing.assert_array_equal(graph.get_initializer(conv.input[2]), expected)


FLOATS = st.floats(-64, 64, width=32)
GRID = st.integers(-64, 64).map(lambda k: k / 8)


@drawn
@given(
    st.lists(st.one_of(FLOATS, GRID), min_size=1, max_size=5),
    st.lists(st.one_of(FLOATS, GRID), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_thresholds_take_a_summand_in_as_float32_adds_it(
    make_node, make_graph, execute, levels, summands, after, first
):
    thresholds = np.unique(np.array(levels, np.float32))[None]
    if after:  # What keeps a tie below.
        thresholds = np.nextafter(thresholds, np.float32(np.inf))
    added = np.array(summands, np.float32)
    channels = added.size
    nodes = [
        make_node("Add", ["a", "x"] if first else ["x", "a"], "sum"),
        make_node("MultiThreshold", ["sum", "t"], "y", out_dtype="INT8", data_layout="NCHW"),
    ]
    shape = (1, channels, 1, 3 * thresholds.size)
    graph = make_graph(nodes, shape, a=added.reshape(1, -1, 1, 1), t=thresholds)
    changed = graph.transform(AbsorbSummandIntoThresholds())
    assert [n.op_type for n in changed.graph.node] == ["MultiThreshold"]
    tie = (thresholds - added[:, None]).astype(np.float32)
    x = np.concatenate([np.nextafter(tie, -np.inf), tie, np.nextafter(tie, np.inf)], 1)
    x = x.astype(np.float32).reshape(shape)
    np.testing.assert_array_equal(execute(changed, x), execute(graph, x))


def test_a_summand_of_each_column_stays(make_node, make_graph):
    nodes = [
        make_node("Add", ["x", "a"], "sum"),
        make_node("MultiThreshold", ["sum", "t"], "y", out_dtype="INT8", data_layout="NCHW"),
    ]
    graph = make_graph(nodes, (1, 3, 2, 3), a=np.arange(3.0), t=np.zeros((1, 1)))
    changed = graph.transform(AbsorbSummandIntoThresholds())
    assert [n.op_type for n in changed.graph.node] == ["Add", "MultiThreshold"]
