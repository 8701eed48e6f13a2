"""The last layer's bias stands before its scale, as integers."""

from __future__ import annotations

import numpy as np
import pytest
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.insert_topk import InsertTopK

from brevitas_ftprop.export.errors import ExportError
from brevitas_ftprop.export.finn.passes import FoldQuantizedBias, IntegerBias

RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(-3, 4, (6, 4))
X = RNG.integers(0, 8, (1, 6))


def integer_graph(make_node, make_graph, bias, *, scale=0.25, behind=()) -> ModelWrapper:
    nodes = [
        make_node("MatMul", ["x", "w"], "m"),
        make_node("Mul", ["m", "s"], "t"),
        make_node("Add", ["t", "b"], "a" if behind else "y"),
        *(make_node(operator, ["a", "two"], "y") for operator in behind),
    ]
    more = {"two": 2.0} if behind else {}
    graph = make_graph(nodes, (1, 6), w=WEIGHTS, s=scale, b=np.array(bias), **more)
    graph.set_tensor_datatype("x", DataType["UINT3"])
    graph.set_tensor_datatype("w", DataType["INT3"])
    return graph.transform(InferDataTypes())


def test_integers_go_before_the_scale(make_node, make_graph, execute, operators):
    graph = integer_graph(make_node, make_graph, (1.0, -0.5, 0.25, 0.0), behind=("Mul",))
    changed = graph.transform(IntegerBias(is_class=False)).transform(InferDataTypes())
    assert operators(changed) == ["MatMul", "Add", "Mul", "Mul"]
    added = changed.graph.node[1]
    assert changed.get_initializer(added.input[1]).tolist() == [4, -2, 1, 0]
    assert changed.get_tensor_datatype(added.output[0]).is_integer()
    np.testing.assert_array_equal(execute(changed, X), execute(graph, X))


def test_a_float_bias_is_compared_in_fixed_point(make_node, make_graph, operators):
    bias = np.array((0.31, -0.52, 0.77, 0.1), np.float32)
    graph = integer_graph(make_node, make_graph, bias).transform(InsertTopK(k=1))
    changed = graph.transform(IntegerBias(is_class=True))
    assert operators(changed) == ["MatMul", "Mul", "Add", "Mul", "TopK"]
    _, shift, added, *_ = changed.graph.node
    factor = changed.get_initializer(shift.input[1])
    integers = changed.get_initializer(added.input[1])
    for _ in range(50):
        sums = RNG.integers(0, 8, (1, 6)) @ WEIGHTS
        assert (factor * sums + integers).argmax() == (0.25 * sums + bias).argmax()


@pytest.mark.parametrize("change", ["negative scale", "float input", "no bias"])
def test_other_endings_stay(make_node, make_graph, operators, change):
    scale = -0.25 if change == "negative scale" else 0.25
    graph = integer_graph(make_node, make_graph, (0.5,) * 4, scale=scale)
    if change == "float input":
        graph.set_tensor_datatype("x", DataType["FLOAT32"])
        graph = graph.transform(InferDataTypes())
    if change == "no bias":
        graph = make_graph([make_node("MatMul", ["x", "w"], "y")], (1, 6), w=WEIGHTS)
    before = operators(graph)
    assert operators(graph.transform(IntegerBias(is_class=False))) == before


def test_a_scale_of_1_need_not_be_there(make_node, make_graph, execute, operators):
    nodes = [make_node("MatMul", ["x", "w"], "m"), make_node("Add", ["m", "b"], "y")]
    graph = make_graph(nodes, (1, 6), w=WEIGHTS, b=np.array((1.0, -2.0, 3.0, 0.0)))
    graph.set_tensor_datatype("x", DataType["UINT3"])
    changed = graph.transform(IntegerBias(is_class=False))
    assert changed.get_tensor_datatype(changed.graph.node[1].input[1]).is_integer()
    np.testing.assert_array_equal(execute(changed, X), execute(graph, X))


def test_a_float_bias_is_not_integers(make_node, make_graph):
    graph = integer_graph(make_node, make_graph, (0.3,) * 4)
    with pytest.raises(ExportError, match="no multiple of the scale"):
        graph.transform(IntegerBias(is_class=False))


def test_a_quantized_bias_is_computed_once(make_node, make_graph, execute, operators):
    quantizer = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [
        make_node("Quant", ["b", "s", "z", "n"], "q", **quantizer),
        make_node("Gemm", ["x", "w", "q"], "y"),
    ]
    constants = {"w": WEIGHTS, "b": np.array((0.3, -0.4, 0.125, 9)), "s": 0.25, "z": 0.0, "n": 4.0}
    graph = make_graph(nodes, (1, 6), **constants)
    changed = graph.transform(FoldQuantizedBias())
    assert operators(changed) == ["Gemm"]
    assert changed.get_initializer(changed.graph.node[0].input[2]).tolist() == [0.25, -0.5, 0, 1.75]
    np.testing.assert_array_equal(execute(changed, X), execute(graph, X))
