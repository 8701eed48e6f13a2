"""Quantizers turned into thresholds compute what QONNX's executor makes of the quantizers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from brevitas_ftprop.export.finn.passes import QuantToThresholds
from brevitas_ftprop.export.tags import QUANTIZER

SHAPE = (1, 4, 30, 30)
MODES = ("ROUND", "CEIL", "FLOOR", "DOWN")


def inputs(scale, zero_point, seed=0) -> np.ndarray:
    """Random values, and every half-integer of the quantizer with its float32 neighbours."""
    random = np.random.default_rng(seed)
    grid = ((np.arange(-300, 300) / 2 - zero_point) * np.float32(scale)).astype(np.float32)
    edges = [grid, np.nextafter(grid, np.float32(1e9)), np.nextafter(grid, np.float32(-1e9))]
    special = np.array([0.0, -0.0, 1e30, -1e30], np.float32)
    values = np.concatenate([*edges, special, random.normal(0, 3 * scale, 1796)])
    return random.permutation(values).astype(np.float32).reshape(SHAPE)


@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0), (0, 1)])
@pytest.mark.parametrize(("mode", "bits"), [*itertools.product(MODES, (2, 4))])
@pytest.mark.parametrize(("scale", "zero_point"), [(0.25, 0.0), (0.3, 0.0), (0.1, 2.0)])
def test_an_integer_quantizer_is_the_same_function_ties_included(
    make_node, make_graph, execute, operators, signed, narrow, mode, bits, scale, zero_point
):
    quant = make_node(
        "Quant",
        ["x", "s", "z", "b"],
        "y",
        tag="act",
        signed=signed,
        narrow=narrow,
        rounding_mode=mode,
    )
    model = make_graph([quant], SHAPE, s=scale, z=zero_point, b=bits)
    x = inputs(scale, zero_point)
    expected = execute(model, x)
    changed = model.transform(QuantToThresholds())
    assert operators(changed) == ["MultiThreshold", "Mul"]
    np.testing.assert_array_equal(execute(changed, x), expected)
    (note, _) = changed.graph.node[0].metadata_props
    assert (note.key, note.value) == (QUANTIZER, "act")


def test_each_channel_has_its_own_thresholds(make_node, make_graph, execute):
    scale = np.array([0.1, 0.25, 1.0, 3.0]).reshape(1, 4, 1, 1)
    quant = make_node("Quant", ["x", "s", "z", "b"], "y", signed=1, narrow=0, rounding_mode="ROUND")
    model = make_graph([quant], SHAPE, s=scale, z=0.0, b=3)
    x = inputs(0.1, 0.0)
    changed = model.transform(QuantToThresholds())
    assert changed.get_initializer(changed.graph.node[0].input[1]).shape == (4, 7)
    np.testing.assert_array_equal(execute(changed, x), execute(model, x))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_sign_gives_minus_one_and_one_and_zero_counts_as_positive(
    make_node, make_graph, execute, scale
):
    model = make_graph([make_node("BipolarQuant", ["x", "s"], "y")], SHAPE, s=scale)
    x = inputs(0.25, 0.0)
    changed = model.transform(QuantToThresholds())
    np.testing.assert_array_equal(execute(changed, x), execute(model, x))
    (declared,) = (a.s for a in changed.graph.node[0].attribute if a.name == "out_dtype")
    assert declared == b"INT2"


def test_a_relu_goes_into_an_unsigned_quantizer(make_node, make_graph, execute, operators):
    nodes = [
        make_node("Relu", ["x"], "r"),
        make_node("Quant", ["r", "s", "z", "b"], "y", signed=0, narrow=0, rounding_mode="ROUND"),
    ]
    model = make_graph(nodes, SHAPE, s=0.25, z=0.0, b=2)
    x = inputs(0.25, 0.0)
    expected = execute(model, x)
    changed = model.transform(QuantToThresholds())
    assert operators(changed) == ["MultiThreshold", "Mul"]
    np.testing.assert_array_equal(execute(changed, x), expected)


@pytest.mark.parametrize("signed", [0, 1])
def test_a_relu_stays_where_it_matters(make_node, make_graph, execute, operators, signed):
    """Before a signed quantizer, and where another node reads it."""
    nodes = [
        make_node("Relu", ["x"], "r"),
        make_node(
            "Quant", ["r", "s", "z", "b"], "q", signed=signed, narrow=0, rounding_mode="ROUND"
        ),
        make_node("Add", ["q", "r"] if not signed else ["q", "q"], "y"),
    ]
    model = make_graph(nodes, SHAPE, s=0.25, z=0.0, b=2)
    x = inputs(0.25, 0.0)
    changed = model.transform(QuantToThresholds())
    assert "Relu" in operators(changed)
    np.testing.assert_array_equal(execute(changed, x), execute(model, x))


def test_weights_are_left_alone(make_node, make_graph, operators):
    nodes = [
        make_node("Quant", ["w", "s", "z", "b"], "q", signed=1, narrow=1, rounding_mode="ROUND"),
        make_node("Mul", ["x", "q"], "y"),
    ]
    model = make_graph(nodes, SHAPE, w=np.ones((1, 4, 1, 1)), s=0.25, z=0.0, b=4)
    assert operators(model.transform(QuantToThresholds())) == ["Quant", "Mul"]


def test_more_than_eight_bits_are_refused(make_node, make_graph):
    quant = make_node("Quant", ["x", "s", "z", "b"], "y", signed=1, narrow=0, rounding_mode="ROUND")
    with pytest.raises(ValueError, match="9 bits"):
        make_graph([quant], SHAPE, s=0.25, z=0.0, b=9).transform(QuantToThresholds())


def test_a_computed_scale_is_refused(make_node, make_graph):
    nodes = [
        make_node("Abs", ["x"], "s"),
        make_node("Quant", ["x", "s", "z", "b"], "y", signed=1, narrow=0, rounding_mode="ROUND"),
    ]
    with pytest.raises(ValueError, match="computed"):
        make_graph(nodes, SHAPE, z=0.0, b=4).transform(QuantToThresholds())
