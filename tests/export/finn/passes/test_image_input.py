"""An accelerator's input: integers instead of floats, channels last instead of first."""

from __future__ import annotations

import numpy as np
import pytest

from brevitas_ftprop.export.finn.passes import ChannelsLastInput, IntegerInput, QuantToThresholds

SHAPE = (1, 3, 16, 16)


@pytest.fixture
def quantized_input(make_node, make_graph):
    nodes = [
        make_node("Quant", ["x", "s", "z", "b"], "q", signed=1, narrow=0, rounding_mode="ROUND"),
        make_node("Transpose", ["q"], "y", perm=[0, 2, 3, 1]),
    ]
    model = make_graph(nodes, SHAPE, s=1 / 32, z=0.0, b=8).transform(QuantToThresholds())
    # The scale is no part of what is moved here.
    multi_threshold, mul, transpose = model.graph.node
    transpose.input[0] = multi_threshold.output[0]
    model.graph.node.remove(mul)
    return model


@pytest.mark.parametrize("transposed", [True, False])
def test_the_transpose_goes_to_the_front_or_away(quantized_input, execute, operators, transposed):
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    expected = execute(quantized_input, x)
    changed = quantized_input.transform(ChannelsLastInput(transposed=transposed))
    assert operators(changed) == ["Transpose"] * transposed + ["MultiThreshold"]
    given = x if transposed else x.transpose(0, 2, 3, 1)
    assert changed.get_tensor_shape("x") == list(given.shape)
    np.testing.assert_array_equal(execute(changed, given), expected)


def test_a_transpose_of_integers_goes_away(make_node, make_graph, execute, operators):
    nodes = [make_node("Transpose", ["x"], "t", perm=[0, 2, 3, 1]), make_node("Neg", ["t"], "y")]
    model = make_graph(nodes, (1, 3, 4, 5)).transform(IntegerInput("INT4", None, 1.0))
    x = np.random.default_rng(0).integers(-8, 8, (1, 3, 4, 5))
    changed = model.transform(ChannelsLastInput(transposed=False))
    assert operators(changed) == ["Neg"]
    assert changed.get_tensor_shape("x") == [1, 4, 5, 3]
    assert changed.get_tensor_datatype("x").name == "INT4"
    last = x.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(execute(changed, last), execute(model, x))


def test_thresholds_are_those_that_are_given_and_what_stood_before_goes(
    make_node, make_graph, execute, operators
):
    nodes = [
        make_node("Mul", ["x", "two"], "d"),
        make_node("Flatten", ["d"], "f"),
        make_node("BipolarQuant", ["f", "one"], "y"),
    ]
    graph = make_graph(nodes, (1, 1, 2, 2), two=2.0, one=1.0).transform(QuantToThresholds())
    thresholds = np.array([[3.0], [4.0], [5.0], [6.0]], np.float32)
    changed = graph.transform(IntegerInput("UINT3", thresholds, None))
    assert operators(changed)[0] == "MultiThreshold"
    assert changed.get_tensor_shape("x") == [1, 4]
    assert execute(changed, np.array([[4, 4, 4, 4]])).tolist() == [[1, 1, -1, -1]]


def test_a_factor_follows_where_the_first_layer_has_weights(make_node, make_graph, execute):
    nodes = [make_node("Flatten", ["x"], "f"), make_node("MatMul", ["f", "w"], "y")]
    graph = make_graph(nodes, (1, 1, 2, 2), w=np.eye(4))
    changed = graph.transform(IntegerInput("UINT8", None, 1 / 255))
    assert changed.get_tensor_shape("x") == [1, 4]
    x = np.array([[0, 51, 102, 255]])
    np.testing.assert_allclose(execute(changed, x), x / np.float32(255), rtol=2**-23)


@pytest.mark.parametrize(
    ("thresholds", "factor"), [(np.zeros((1, 2), np.float32), None), (None, None)]
)
def test_a_graph_that_starts_otherwise_takes_no_integers(make_node, make_graph, thresholds, factor):
    model = make_graph([make_node("MatMul", ["x", "w"], "y")], (1, 3), w=np.eye(3))
    with pytest.raises(ValueError, match="one quantizer of 8 bits or fewer to be the first layer"):
        model.transform(IntegerInput("UINT8", thresholds, factor))
