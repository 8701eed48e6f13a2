"""Pools and averages are rewritten without changing what they compute."""

from __future__ import annotations

import numpy as np
import pytest

from brevitas_ftprop.export.finn.passes import (
    AveragePoolToGlobal,
    RethresholdPooledFork,
    ThresholdBeforePool,
    UnsignedPaddedPool,
)
from brevitas_ftprop.export.tags import READ_BEHIND_POOL

SHAPE = (1, 3, 8, 8)
POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}
PADDED = POOL | {"pads": [1, 1, 1, 1]}
SIGN = np.zeros((1, 2))
SIGNED = np.array([[-1.0, 0.0, 0.5]])
PER_CHANNEL = np.array([[-1.0, 0.0, 0.5], [-0.5, 0.1, 2.0], [0.0, 0.0, 0.0]])


def step(make_node, source, result, lowest, kind, tag="act"):
    return make_node(
        "MultiThreshold",
        [source, "t"],
        result,
        tag=tag,
        out_dtype=kind,
        out_bias=float(lowest),
        data_layout="NCHW",
    )


def x() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    # Whole windows below every threshold: a padded zero would win there.
    values[:, :, :4] -= 5
    values[0, 0, 6] = 0
    return values


@pytest.mark.parametrize("thresholds", [SIGN, SIGNED, PER_CHANNEL], ids=["sign", "one", "each"])
@pytest.mark.parametrize("pool", [POOL, PADDED], ids=["plain", "padded"])
def test_a_step_and_a_maximum_change_places(
    make_node, make_graph, execute, operators, thresholds, pool
):
    nodes = [
        make_node("MaxPool", ["x"], "p", **pool),
        step(make_node, "p", "y", -1, "INT2"),
    ]
    model = make_graph(nodes, SHAPE, t=thresholds)
    expected = execute(model, x())
    changed = model.transform(ThresholdBeforePool())
    assert operators(changed) == ["MultiThreshold", "MaxPool"]
    np.testing.assert_array_equal(execute(changed, x()), expected)
    notes = {entry.key for entry in changed.graph.node[0].metadata_props}
    assert READ_BEHIND_POOL in notes


@pytest.mark.parametrize("order", ["act before pool", "pool before act"])
@pytest.mark.parametrize("thresholds", [SIGN, SIGNED, PER_CHANNEL], ids=["sign", "one", "each"])
def test_a_padded_pool_sees_no_negative_integer(
    make_node, make_graph, execute, operators, thresholds, order
):
    nodes = [
        step(make_node, "x", "q", -1, "INT3"),
        make_node("MaxPool", ["q"], "y", **PADDED),
    ]
    if order == "pool before act":
        nodes = [
            make_node("MaxPool", ["x"], "p", **PADDED),
            step(make_node, "p", "y", -1, "INT3"),
        ]
    model = make_graph(nodes, SHAPE, t=thresholds)
    expected = execute(model, x())
    changed = model.transform(ThresholdBeforePool()).transform(UnsignedPaddedPool())
    assert operators(changed) == ["MultiThreshold", "MaxPool", "MultiThreshold"]
    np.testing.assert_array_equal(execute(changed, x()), expected)
    first, _, second = changed.graph.node
    assert execute_first(changed, x()).min() >= 0
    tagged = second if order == "pool before act" else first
    for each in (first, second):
        assert bool(each.metadata_props) == (each is tagged)
    assert READ_BEHIND_POOL not in {entry.key for entry in tagged.metadata_props}


def execute_first(model, values):
    from qonnx.core.onnx_exec import execute_onnx

    context = execute_onnx(model, {"x": values}, return_full_exec_context=True)
    return context[model.graph.node[0].output[0]]


def test_a_scale_between_goes_behind_the_padded_pool(make_node, make_graph, execute, operators):
    nodes = [
        step(make_node, "x", "q", -1, "INT3"),
        make_node("Mul", ["q", "s"], "m"),
        make_node("MaxPool", ["m"], "y", **PADDED),
    ]
    model = make_graph(nodes, SHAPE, t=SIGNED, s=0.25)
    expected = execute(model, x())
    changed = model.transform(UnsignedPaddedPool())
    assert operators(changed) == ["MultiThreshold", "MaxPool", "MultiThreshold", "Mul"]
    np.testing.assert_array_equal(execute(changed, x()), expected)


def test_unsigned_integers_and_pools_without_padding_are_left_alone(
    make_node, make_graph, operators
):
    for lowest, pool in ((0, PADDED), (-1, POOL)):
        nodes = [
            step(make_node, "x", "q", lowest, "INT3"),
            make_node("MaxPool", ["q"], "y", **pool),
        ]
        changed = make_graph(nodes, SHAPE, t=SIGNED).transform(UnsignedPaddedPool())
        assert operators(changed) == ["MultiThreshold", "MaxPool"]


@pytest.mark.parametrize("lowest", [0, -1])
@pytest.mark.parametrize("scales", [(), (0.25,), (0.3,), (0.3, 3.0)])
def test_a_forked_pool_is_quantized_once_more(
    make_node, make_graph, execute, operators, scales, lowest
):
    nodes = [
        step(make_node, "x", "q0", lowest, "INT3"),
        *(make_node("Mul", [f"q{i}", f"s{i}"], f"q{i + 1}") for i in range(len(scales))),
        make_node("MaxPool", [f"q{len(scales)}"], "p", **PADDED),
        make_node("Add", ["p", "p"], "y"),
    ]
    constants = {"t": SIGNED} | {f"s{i}": scale for i, scale in enumerate(scales)}
    model = make_graph(nodes, SHAPE, **constants)
    expected = execute(model, x())
    changed = model.transform(RethresholdPooledFork())
    assert operators(changed)[-3:] == ["MultiThreshold", "Mul", "Add"]
    assert not changed.graph.node[-3].metadata_props
    np.testing.assert_array_equal(execute(changed, x()), expected)


@pytest.mark.parametrize(
    ("operator", "attributes", "becomes"),
    [
        ("ReduceMean", {"keepdims": 1}, "GlobalAveragePool"),
        ("ReduceMean", {"keepdims": 0}, "GlobalAveragePool Flatten"),
        ("AveragePool", {"kernel_shape": [8, 8]}, "GlobalAveragePool"),
        ("AveragePool", {"kernel_shape": [4, 4], "strides": [4, 4]}, "AveragePool"),
        ("AveragePool", {"kernel_shape": [10, 10], "pads": [1, 1, 1, 1]}, "AveragePool"),
    ],
)
def test_only_averages_over_the_whole_map_become_global(
    make_node, make_graph, execute, operators, operator, attributes, becomes
):
    inputs = ["x", "axes"] if operator == "ReduceMean" else ["x"]
    constants = {"axes": np.array([2, 3])} if operator == "ReduceMean" else {}
    model = make_graph([make_node(operator, inputs, "y", **attributes)], SHAPE, **constants)
    expected = execute(model, x())
    changed = model.transform(AveragePoolToGlobal())
    assert operators(changed) == becomes.split()
    np.testing.assert_allclose(execute(changed, x()), expected, rtol=1e-6)
