"""A quantizer goes in front of a flattening where its steps are the same for all elements."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export.finn.passes import PLAINER, QuantizeBeforeFlattening, QuantToThresholds
from brevitas_ftprop.export.qonnx import qonnx_graph

BETWEEN = {"Relu": [], "Mul": ["c"], "Add": ["c"], "Div": ["c"], "Sub": ["c"]}
QUANTIZERS = {
    "Quant": ["s", "z", "b"],
    "BipolarQuant": ["s"],
    "MultiThreshold": ["t"],
}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(list(QUANTIZERS)),
    st.lists(st.sampled_from(list(BETWEEN)), max_size=3),
    st.sampled_from(["Flatten", "Reshape"]),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from([0.5, -0.25, 0.3]),
    st.integers(0, 2**32 - 1),
)
def test_flattening_and_steps_change_places(
    make_node, make_graph, execute, operators, quantizer, between, flattening, shape, factor, seed
):
    attributes = {
        "Quant": {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"},
        "MultiThreshold": {"out_dtype": "INT4", "data_layout": "NC"},
    }.get(quantizer, {})
    names = [f"v{i}" for i in range(len(between) + 3)]
    nodes = [
        make_node("Identity", ["x"], names[0]),
        make_node(flattening, [names[0]] + ["rows"] * (flattening == "Reshape"), names[1]),
    ]
    for index, operator in enumerate(between, start=1):
        nodes.append(make_node(operator, [names[index], *BETWEEN[operator]], names[index + 1]))
    source = nodes[-1].output[0]
    nodes.append(
        make_node(quantizer, [source, *QUANTIZERS[quantizer]], "y", tag="act", **attributes)
    )
    constants = {"s": 0.25, "z": 0.0, "b": 3, "t": [[-0.5, 0.25, 1.0]], "c": factor}
    rows = np.array([1, int(np.prod(shape))], np.int64)
    graph = make_graph(nodes, (1, *shape), rows=rows, **constants)
    changed = graph.transform(QuantizeBeforeFlattening())
    assert operators(changed) == ["Identity", *between, quantizer, flattening]
    assert [p.value for p in changed.graph.node[-2].metadata_props] == ["act", "0"]
    # Half of them lie on the steps.
    x = np.random.default_rng(seed).integers(-16, 16, (1, *shape)) / 8
    np.testing.assert_array_equal(execute(changed, x), execute(graph, x))


def test_steps_of_each_column_and_flattenings_with_two_readers_stay(
    make_node, make_graph, operators
):
    step = {"out_dtype": "INT4", "data_layout": "NC"}
    nodes = [
        make_node("Flatten", ["x"], "f"),
        make_node("MultiThreshold", ["f", "t"], "y", **step),
    ]
    graph = make_graph(nodes, (1, 2, 1, 1), t=[[0.0], [1.0]])
    assert operators(graph.transform(QuantizeBeforeFlattening()))[0] == "Flatten"
    nodes.insert(1, make_node("Relu", ["f"], "unread"))
    graph = make_graph(nodes, (1, 2, 1, 1), t=[[0.0]])
    assert operators(graph.transform(QuantizeBeforeFlattening()))[0] == "Flatten"


class View(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(1, -1)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("flatten", [nn.Flatten, View])
@pytest.mark.parametrize(
    ("pool", "activation"),
    [
        (nn.AdaptiveAvgPool2d(1), qnn.QuantIdentity(Int8ActPerTensorFixedPoint, bit_width=3)),
        (nn.AdaptiveAvgPool2d((4, 4)), qnn.QuantReLU(Uint8ActPerTensorFixedPoint, bit_width=3)),
        (nn.MaxPool2d(2), qnn.QuantIdentity(quant.TargetPropSignedBinaryActPerTensorConst)),
    ],
)
@pytest.mark.cover(2)
def test_graphs_of_either_exporter_compute_what_pytorch_does_on_ties(
    pool, activation, flatten, dynamo
):
    act = qnn.QuantReLU(Uint8ActPerTensorFixedPoint, bit_width=4)
    model = nn.Sequential(act, pool, flatten(), activation)
    x = torch.randint(-20, 20, (1, 3, 4, 4)) / 16
    model(x)
    model.eval()
    graph = ModelWrapper(qonnx_graph(model, x, dynamo=dynamo))
    for each in (*PLAINER, QuantToThresholds):
        graph = graph.transform(each())
    assert graph.graph.node[-1].op_type in ("Flatten", "Reshape", "Mul")
    flattening = next(n for n in graph.graph.node if n.op_type in ("Flatten", "Reshape"))
    assert graph.find_producer(flattening.input[0]).op_type == "Mul"
    (found,) = execute_onnx(graph, {graph.graph.input[0].name: x.numpy()}).values()
    np.testing.assert_array_equal(found, model(x).detach().numpy())
