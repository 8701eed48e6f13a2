"""What is nearly an identity is kept, what is one goes; types hold all that is joined."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from brevitas_ftprop.export.finn import export_finn
from brevitas_ftprop.export.finn.environment import finn_environment

pytest.importorskip("finn", reason="needs the extra 'finn'")


@pytest.mark.parametrize(("op", "neutral"), [("Add", 0), ("Sub", 0), ("Mul", 1), ("Div", 1)])
@pytest.mark.parametrize("off", [0, 1e-6])
def test_an_operator_is_removed_where_it_changes_nothing(make_node, make_graph, op, neutral, off):
    from qonnx.transformation.remove import RemoveIdentityOps

    nodes = [make_node(op, ["x", "c"], "between"), make_node("Relu", ["between"], "y")]
    graph = make_graph(nodes, (1, 2), c=np.array([neutral, neutral + off], np.float32))
    with finn_environment():
        kinds = [node.op_type for node in graph.transform(RemoveIdentityOps()).graph.node]
    assert kinds == (["Relu"] if off == 0 else [op, "Relu"])


@pytest.mark.parametrize(
    ("kinds", "joined"),
    [
        (["UINT2", "INT4"], "INT4"),
        (["UINT4", "INT4"], "INT5"),
        (["BIPOLAR", "BIPOLAR"], "BIPOLAR"),
        (["BIPOLAR", "UINT2"], "INT3"),
        (["INT4", "FLOAT32"], "FLOAT32"),
    ],
)
def test_what_is_joined_has_a_type_that_holds_all_branches(make_node, make_graph, kinds, joined):
    from qonnx.core.datatype import DataType
    from qonnx.transformation.infer_datatypes import InferDataTypes

    graph = make_graph([make_node("Concat", ["x", "other"], "y", axis=1)], (1, 2), other=[[0, 0]])
    for name, kind in zip(("x", "other"), kinds, strict=True):
        graph.set_tensor_datatype(name, DataType[kind])
    with finn_environment():
        found = graph.transform(InferDataTypes())
    assert found.get_tensor_datatype("y") == DataType[joined]


def matrix_product(make_graph, weights: np.ndarray, **attributes):
    """FINN's layer of a matrix product, and its graph."""
    from qonnx.core.datatype import DataType
    from qonnx.custom_op.registry import getCustomOp

    inputs, outputs = weights.shape
    kinds = {"inputDataType": "BINARY", "weightDataType": "INT8", "outputDataType": "INT32"}
    layer = onnx.helper.make_node(
        "MVAU", ["x", "w"], ["s"], domain="finn.custom_op.fpgadataflow", backend="fpgadataflow",
        MW=inputs, MH=outputs, PE=1, SIMD=1, noActivation=1, **kinds, **attributes,
    )  # fmt: skip
    behind = onnx.helper.make_node("Identity", ["s"], ["y"])
    graph = make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["s"]), behind],
                       (1, inputs), w=weights)  # fmt: skip
    graph.graph.node[0].CopyFrom(layer)
    graph.set_tensor_datatype("x", DataType["BINARY"])
    return getCustomOp(graph.graph.node[0]), graph


@pytest.mark.parametrize(
    ("weights", "kind"),
    [([-1, 1], "BIPOLAR"), ([-1, -1], "BIPOLAR"), ([-1, 0], "INT2"), ([-1, 0, 1], "INT2")],
)
def test_weights_have_the_smallest_type_that_holds_them(make_graph, weights, kind):
    with finn_environment():
        layer, graph = matrix_product(make_graph, np.array([weights]))
        assert layer.minimize_weight_bit_width(graph).name == kind
        assert layer.get_nodeattr("weightDataType") == kind


@pytest.mark.parametrize("inputs", [1, 7, 8, 576])
def test_the_count_of_an_xnor_layer_holds_all_its_products(make_graph, inputs):
    weights = np.arange(inputs)[:, None] % 2
    with finn_environment():
        layer, graph = matrix_product(make_graph, weights, binaryXnorMode=1)
        kind = layer.minimize_accumulator_width(graph)
        assert layer.get_nodeattr("outputDataType") == layer.get_nodeattr("accDataType")
    assert kind.min() == 0
    assert kind.max() >= inputs > kind.max() // 2


def test_a_batch_norm_of_tiny_values_reaches_the_thresholds(one_block, tmp_path):
    with torch.no_grad():
        one_block[2].weight.mul_(1e-6)
        one_block[2].bias.copy_(1e-6 * torch.randn(4))
    for _ in range(3):
        one_block(torch.randn(8, 3, 8, 8))
    example = torch.randn(1, 3, 8, 8)
    assert export_finn(one_block.eval(), example, tmp_path / "out", dynamo=False, progress=False).ok
