"""Types for hls4ml hold every value that can occur, and not much more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper

from brevitas_ftprop.export import ExportError
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from brevitas_ftprop.export.hls4ml.precision import Span, layer_precisions, span_of


def ends(kind: str) -> tuple[float, float, float]:
    """Smallest value, largest value and unit of an hls4ml type."""
    signed = not kind.startswith("u")
    width, integer = map(int, kind[kind.index("<") + 1 : -1].split(",")[:2])
    unit = 2.0 ** (integer - width)
    return (
        (-(2 ** (width - 1)) * unit, (2 ** (width - 1) - 1) * unit, unit)
        if signed
        else (0.0, (2**width - 1) * unit, unit)
    )


@given(st.lists(st.floats(width=32, min_value=-1e6, max_value=1e6), min_size=1, max_size=5))
def test_constants_are_multiples_within_their_type(values):
    values = np.array(values, dtype=np.float32).astype(np.float64)
    try:
        low, high, unit = ends(span_of(values).type)
    except ExportError:
        # Numbers as far apart as 1e6 and 1e-40 do not fit into one fixed-point type.
        assert np.abs(values[values != 0]).min() < 1e-9
        return
    assert low <= values.min()
    assert values.max() <= high
    np.testing.assert_array_equal(values / unit, np.round(values / unit))


@pytest.mark.parametrize(
    ("span", "kind"),
    [
        (Span(0, 0), "ufixed<1,1>"),
        (Span(0, 7), "ufixed<3,3>"),
        (Span(-1, 1), "fixed<2,2>"),
        (Span(-2, 1, 2), "fixed<2,0>"),
        (Span(0, 3, -2), "ufixed<2,4>"),
    ],
)
def test_a_span_has_the_narrowest_type(span, kind):
    assert span.type == kind


@pytest.mark.parametrize("name", ["sign", "staircase5", "int4"])
def test_every_layer_has_every_type(name, exported):
    _, path, _ = exported(name)
    graph = hardware_graph(ModelWrapper(str(path)))
    found = layer_precisions(graph)
    assert found["global_in"] == {"result": "fixed<8,3,RND_CONV,SAT>"}
    for node in graph.graph.node:
        is_weight = node.op_type == "Quant" and graph.get_initializer(node.input[0]) is not None
        assert is_weight or "result" in found[node.name]
        if node.op_type in ("Conv", "MatMul"):
            assert set(found[node.name]) == {"accum", "result", "weight", "bias"}
        if node.op_type == "BatchNormalization":
            assert set(found[node.name]) == {"scale", "bias", "result"}


def test_a_wider_input_keeps_the_unit(exported):
    graph = hardware_graph(ModelWrapper(str(exported("sign")[1])))
    wider = layer_precisions(graph, wider_input=True)
    assert wider["global_in"] == {"result": "fixed<9,4,RND_CONV,SAT>"}
    assert wider["features_input"] == {"result": "fixed<8,3,RND_CONV,SAT>"}


def test_a_value_that_needs_too_many_bits_is_refused():
    with pytest.raises(ExportError, match="needs 202 bits"):
        _ = Span(-(1 << 200) - 1, 0).type
