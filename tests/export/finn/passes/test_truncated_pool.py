"""Pools and truncations that do nothing go; others are window sums, shifted."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import nn

from brevitas_ftprop.export.finn.passes import (
    PLAINER,
    DropIdleLayers,
    QuantToThresholds,
    TruncatedPoolToQuantAvgPool,
)
from brevitas_ftprop.export.qonnx import qonnx_graph

SIZE = 6


def quantizer(*, signed: bool, bits: int) -> nn.Module:
    options = {"bit_width": bits, "return_quant_tensor": True, "collect_stats_steps": 1}
    if signed:
        return qnn.QuantIdentity(Int8ActPerTensorFixedPoint, **options)
    return qnn.QuantReLU(Uint8ActPerTensorFixedPoint, **options)


def truncated(kernel: int, stride: int, bits: int, kept: int, *, signed: bool = False, **options):
    """A quantizer and a truncating pool, and images of all its integers: ends, ties, others."""
    options = {"float_to_int_impl_type": "FLOOR", "return_quant_tensor": False} | options
    pool = qnn.TruncAvgPool2d(kernel, stride, bit_width=kept, **options)
    model = nn.Sequential(quantizer(signed=signed, bits=bits), pool)
    model(torch.randn(1, 3, SIZE, SIZE))
    model.eval()
    span = 2.0 ** (bits - signed) * model[0].act_quant.scale().detach()
    random = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    ends = [torch.full_like(random, end) for end in (-2.0, 2.0, 0.0)]
    return model, [image * span for image in (random, *ends)]


def plain_graph(model: nn.Module, example: torch.Tensor, *, dynamo: bool = False) -> ModelWrapper:
    graph = ModelWrapper(qonnx_graph(model, example, dynamo=dynamo))
    for each in (*PLAINER, QuantToThresholds, TruncatedPoolToQuantAvgPool):
        graph = graph.transform(each())
    return graph


def assert_same(graph: ModelWrapper, model: nn.Module, images: list[torch.Tensor]) -> None:
    for image in images:
        (found,) = execute_onnx(graph, {graph.graph.input[0].name: image.numpy()}).values()
        # The same integers: a step is far more than the last place, in which their products with
        # a scale may differ.
        np.testing.assert_allclose(found, model(image).detach().numpy(), rtol=1e-6)


@settings(max_examples=6, deadline=None)
@given(
    st.integers(1, SIZE), st.integers(1, SIZE), st.integers(2, 8), st.integers(2, 12), st.booleans()
)
def test_a_truncating_pool_shifts_the_sum_of_its_window(kernel, stride, bits, kept, signed):
    assume(stride <= kernel and kernel > 1)
    model, images = truncated(kernel, stride, bits, kept, signed=signed)
    total = (((1 << bits) - 1) * kernel**2).bit_length()
    # Brevitas clips a signed sum that is more than half of the unsigned ones.
    if signed and kernel**2 << (bits - 1) > 1 << (total - 1):
        with pytest.raises(ValueError, match=f"clips sums of {kernel**2} signed"):
            plain_graph(model, images[0])
        return
    graph = plain_graph(model, images[0])
    kinds = [node.op_type for node in graph.graph.node]
    is_idle = not signed and kept >= total
    is_global = (SIZE - kernel) // stride == 0
    assert "Trunc" not in kinds
    assert ("QuantAvgPool2d" in kinds) is not (is_idle and is_global)
    if "QuantAvgPool2d" in kinds or not kernel % 3:
        assert_same(graph, model, images)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_graphs_of_either_exporter_have_no_truncation_left(dynamo):
    model, images = truncated(2, 2, 4, 4)
    graph = plain_graph(model, images[0], dynamo=dynamo)
    assert [n.op_type for n in graph.graph.node][-2:] == ["QuantAvgPool2d", "Mul"]
    assert_same(graph, model, images)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"float_to_int_impl_type": "ROUND"}, "rounds by ROUND"),
        ({"float_to_int_impl_type": "CEIL"}, "rounds by CEIL"),
        ({"signed": True, "narrow_range": True}, "clips sums of 4 signed"),
        ({"kept": 1}, "6 bits to 1"),
        ({"stride": 3}, "stride is larger than its window"),
        ({"kernel": (2, 3)}, "sides of different length"),
    ],
)
def test_other_truncations_are_refused_by_name(options, reason):
    model, images = truncated(**{"kernel": 2, "stride": 2, "bits": 4, "kept": 3} | options)
    with pytest.raises(ValueError, match=f"Trunc_0 is .*{reason}"):
        plain_graph(model, images[0])


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize(
    "idle", [nn.AdaptiveAvgPool2d((SIZE, SIZE)), nn.AvgPool2d(1), nn.MaxPool2d(1)]
)
@pytest.mark.parametrize("last", [False, True])
def test_a_pool_of_single_pixels_is_left_out(idle, last, dynamo):
    model = nn.Sequential(quantizer(signed=True, bits=4), idle, nn.MaxPool2d(2))
    model[0].return_quant_tensor = False
    model = model[:2] if last else model
    x = torch.randn(1, 3, SIZE, SIZE)
    model(x)
    model.eval()
    graph = ModelWrapper(qonnx_graph(model, x, dynamo=dynamo)).transform(DropIdleLayers())
    assert [n.op_type for n in graph.graph.node] == ["Quant"] + ["MaxPool"] * (not last)
    assert_same(graph, model, [x])


def test_pools_that_skip_pixels_and_those_of_the_image_stay(make_node, make_graph, operators):
    for strides, first in (([2, 2], "Relu"), ([1, 1], "")):
        nodes = [make_node(first, ["x"], "a")] if first else []
        pool = {"kernel_shape": [1, 1], "strides": strides}
        nodes.append(make_node("MaxPool", ["a" if first else "x"], "y", **pool))
        graph = make_graph(nodes, (1, 3, SIZE, SIZE))
        assert operators(graph.transform(DropIdleLayers()))[-1] == "MaxPool"
