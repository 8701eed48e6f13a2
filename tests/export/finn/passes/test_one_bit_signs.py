"""A sign of one bit gives what one of two bits gives, or stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qonnx.core.datatype import DataType
from qonnx.transformation.infer_datatypes import InferDataTypes

from brevitas_ftprop.export.finn.passes import OneBitSigns
from tests.export.finn.conftest import QONNX, graph_of, node, run

HEIGHT, CHANNELS, OUT = 5, 4, 3


def quantizer(source: str, thresholds: str, result: str, lowest: int, steps: int, layout: str):
    kind = {(-1, 2): "INT2", (-1, 3): "INT3"}[lowest, steps]
    attributes = {"out_dtype": kind, "out_scale": 1.0, "out_bias": float(lowest)}
    return node("MultiThreshold", [source, thresholds], result, data_layout=layout, **attributes)


def windows(pad: int, value: int):
    return onnx.helper.make_node(
        "Im2Col",
        ["signs"],
        ["windows"],
        domain=QONNX,
        kernel_size=[3, 3],
        stride=[2, 1],
        pad_amount=[pad] * 4,
        pad_value=value,
        input_shape=str((1, HEIGHT, HEIGHT, CHANNELS)).replace(" ", ""),
    )


def layer(rng, source: str, inputs: int, *, weights=(-1, 1)):
    """A matrix product and its thresholds, on sums that occur, never or always reached."""
    thresholds = np.sort(rng.integers(-inputs, inputs + 1, (OUT, 3)) + rng.choice([0, 0.5]), 1)
    thresholds[0, 0], thresholds[0, -1] = -(2.0**31), 2.0**31
    constants = {"w": rng.choice(weights, (inputs, OUT)), "t": thresholds}
    nodes = [
        node("MatMul", [source, "w"], "sums"),
        quantizer("sums", "t", "y", -1, 3, "NHWC" if source == "windows" else "NC"),
    ]
    return nodes, constants


def graph_with(nodes, constants, shape, *, layout: str, signs: int = CHANNELS):
    zeros = np.repeat(np.arange(signs)[:, None] % 3 - 1.0, 2, axis=1)
    first = quantizer("x", "zeros", "signs", -1, 2, layout)
    graph = graph_of([first, *nodes], shape, zeros=zeros, **constants)
    graph.set_tensor_datatype("x", DataType["INT4"])
    return graph.transform(InferDataTypes())


def kinds_after(graph):
    return [each.op_type for each in graph.transform(OneBitSigns()).graph.node]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_counts_reach_the_thresholds_that_sums_reach(seed, inputs):
    rng = np.random.default_rng(seed)
    nodes, constants = layer(rng, "signs", inputs)
    graph = graph_with(nodes, constants, (1, inputs), layout="NC", signs=inputs)
    changed = graph.transform(OneBitSigns())
    assert [each.op_type for each in changed.graph.node].count("XnorPopcountMatMul") == 1
    assert changed.get_tensor_datatype("signs") == DataType["BINARY"]
    for x in rng.integers(-2, 3, (4, 1, inputs)):
        np.testing.assert_array_equal(run(changed, x), run(graph, x))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(0, 0), (1, -1), (2, -1)]))
def test_windows_padded_with_minus_one_are_padded_with_the_bit_0(seed, padding):
    rng = np.random.default_rng(seed)
    nodes, constants = layer(rng, "windows", 9 * CHANNELS)
    shape = (1, HEIGHT, HEIGHT, CHANNELS)
    graph = graph_with([windows(*padding), *nodes], constants, shape, layout="NHWC")
    changed = graph.transform(OneBitSigns())
    assert "XnorPopcountMatMul" in [each.op_type for each in changed.graph.node]
    for x in rng.integers(-2, 3, (3, *shape)):
        np.testing.assert_array_equal(run(changed, x), run(graph, x))


def test_a_padded_zero_keeps_signs_as_they_are():
    nodes, constants = layer(np.random.default_rng(0), "windows", 9 * CHANNELS)
    shape = (1, HEIGHT, HEIGHT, CHANNELS)
    graph = graph_with([windows(1, 0), *nodes], constants, shape, layout="NHWC")
    assert "XnorPopcountMatMul" not in kinds_after(graph)


@pytest.mark.parametrize("weights", [(-1, 0, 1), (-2, 1)])
def test_weights_of_more_bits_keep_signs_as_they_are(weights):
    nodes, constants = layer(np.random.default_rng(0), "signs", 8, weights=weights)
    assert "MatMul" in kinds_after(graph_with(nodes, constants, (1, 8), layout="NC", signs=8))


def test_sums_that_leave_the_graph_keep_signs_as_they_are():
    (product, _), constants = layer(np.random.default_rng(0), "signs", 8)
    product.output[0] = "y"
    graph = graph_with([product], constants, (1, 8), layout="NC", signs=8)
    assert "MatMul" in kinds_after(graph)


def test_signs_that_thresholds_read_too_are_bits_for_both():
    rng = np.random.default_rng(0)
    nodes, constants = layer(rng, "signs", 8)
    nodes[-1].output[0] = "levels"
    again = quantizer("signs", "half", "other", -1, 3, "NC")
    nodes += [again, node("Add", ["levels", "other3"], "y")]
    nodes.insert(-1, node("MatMul", ["other", "v"], "other3"))
    constants |= {"half": [[-1.0, 0.5, 1.5]], "v": rng.choice([-2, 1], (8, OUT))}
    graph = graph_with(nodes, constants, (1, 8), layout="NC", signs=8)
    changed = graph.transform(OneBitSigns())
    assert [each.op_type for each in changed.graph.node].count("XnorPopcountMatMul") == 1
    for x in rng.integers(-2, 3, (8, 1, 8)):
        np.testing.assert_array_equal(run(changed, x), run(graph, x))
