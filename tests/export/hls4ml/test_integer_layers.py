"""Layers on integers give what PyTorch does on the numbers that they stand for."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from brevitas_ftprop.export.hls4ml.branches import added
from brevitas_ftprop.export.hls4ml.channels_last import ChannelsLast
from brevitas_ftprop.export.hls4ml.integer_layers import LayerWriter
from brevitas_ftprop.export.hls4ml.integers import Integers
from brevitas_ftprop.export.hls4ml.node_forms import Windows
from brevitas_ftprop.export.hls4ml.precision import layer_precisions
from brevitas_ftprop.export.hls4ml.weights import IntegerWeights

CHANNELS = 3
few = settings(max_examples=25, deadline=None)
sizes = st.tuples(st.integers(4, 7), st.integers(4, 7))
ends = st.tuples(st.integers(-6, 1), st.integers(2, 9))
scales = st.integers(-3, 1).map(lambda exponent: 2.0**exponent)
seeds = st.integers(0, 999)


def drawn(seed: int, shape: tuple[int, ...], low: int, high: int) -> Tensor:
    """Integers, the ends among them."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(low, high + 1, shape, generator=generator)
    values.view(-1)[:2] = torch.tensor([low, high])
    return values.float()


def entering(writer: LayerWriter, shape, low: int, high: int, scale: float) -> Integers:
    given = Integers("x", shape, low, high, np.array([scale], np.float32), "first")
    return writer.input_integers(given)


def run(writer: LayerWriter, found: Integers, values: Tensor) -> Tensor:
    """The integers that the graph gives, which are the same channels last."""
    built = writer.built
    shapes = tuple(values.shape), found.shape
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("x", found.tensor), shapes, strict=True)
    ]
    constants = [onnx.numpy_helper.from_array(a, n) for n, a in built.constants.items()]
    graph = helper.make_graph(built.nodes, "layers", infos[:1], infos[1:], constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("qonnx.custom_op.general", 1)]
    model = ModelWrapper(helper.make_model(graph, opset_imports=opsets)).transform(InferShapes())
    result = execute_onnx(model, {"x": values.numpy()})[found.tensor]
    last = model.transform(ChannelsLast())
    assert set(layer_precisions(last)) >= {
        node.name for node in built.nodes if node.input[0] == "x"
    }
    of_last = execute_onnx(last, {"x": values.movedim(1, -1).numpy()})[found.tensor]
    assert torch.from_numpy(of_last).movedim(-1, 1).equal(torch.from_numpy(result))
    assert found.low <= result.min()
    assert result.max() <= found.high
    return torch.from_numpy(result)


@few
@given(
    size=sizes,
    ends=ends,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    is_padded=st.booleans(),
    ceil_mode=st.booleans(),
    seed=seeds,
)
def test_max_pools_never_take_what_they_pad(
    size, ends, kernel, strides, is_padded, ceil_mode, seed
):
    padding = tuple(k // 2 if is_padded else 0 for k in kernel)
    values = drawn(seed, (1, CHANNELS, *size), *ends)
    expected = F.max_pool2d(values, kernel, strides, padding, ceil_mode=ceil_mode)
    writer = LayerWriter("x")
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], "pool", kernel_shape=kernel, strides=strides, pads=[*padding] * 2
    )
    source = entering(writer, tuple(values.shape), *ends, 1.0)
    found = writer.max_pool(source, node, tuple(expected.shape))
    assert run(writer, found, values).equal(expected)


@few
@given(
    size=sizes,
    ends=ends,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    is_padded=st.booleans(),
    scale=scales,
    seed=seeds,
)
def test_averages_are_sums_of_their_windows(size, ends, kernel, strides, is_padded, scale, seed):
    padding = tuple(k // 2 if is_padded else 0 for k in kernel)
    values = drawn(seed, (1, CHANNELS, *size), *ends)
    expected = F.avg_pool2d(scale * values, kernel, strides, padding)
    writer = LayerWriter("x")
    source = entering(writer, tuple(values.shape), *ends, scale)
    node = helper.make_node("AveragePool", ["x"], ["y"], "mean")
    windows = Windows(kernel, strides, [*padding] * 2, expected.shape[2:])
    found = writer.window_sums(source, node, windows, "mean")
    sums = run(writer, found, values)
    assert sums.equal(sums.round())
    torch.testing.assert_close(sums * found.scale[0], expected, rtol=1e-6, atol=0)


@few
@given(ends=ends, weights=st.integers(1, 7), scale=scales, stride=st.integers(1, 2), seed=seeds)
def test_depthwise_sums_are_those_of_each_channel(ends, weights, scale, stride, seed):
    values = drawn(seed, (1, CHANNELS, 5, 6), *ends)
    kernels = drawn(seed + 1, (CHANNELS, 1, 3, 2), -weights, weights)
    options = {"stride": stride, "padding": (1, 1), "groups": CHANNELS}
    expected = F.conv2d(scale * values, 0.25 * kernels, **options)
    writer = LayerWriter("x")
    source = entering(writer, tuple(values.shape), *ends, scale)
    attributes = {"kernel_shape": [3, 2], "strides": [stride] * 2, "pads": [1] * 4}
    attributes |= {"dilations": [1, 1], "group": CHANNELS}
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", **attributes)
    of_conv = IntegerWeights(kernels.long().numpy(), np.full(CHANNELS, 0.25, np.float32), None)
    found = writer.sums(source, of_conv, node, tuple(expected.shape), "conv")
    assert (run(writer, found, values) * found.scale[0]).equal(expected)


@few
@given(ends=ends, scale=scales, factor=st.sampled_from([1, 2, 3, 8]), size=sizes, seed=seeds)
def test_sums_of_integers_whose_scales_are_multiples_are_integers(ends, scale, factor, size, seed):
    values = drawn(seed, (1, CHANNELS, *size), *ends)
    node = helper.make_node("Add", ["a", "b"], ["y"], "sum")
    writer = LayerWriter("x")
    source = entering(writer, tuple(values.shape), *ends, scale)
    pool = helper.make_node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    pooled = writer.max_pool(source, pool, tuple(values.shape))
    # The branch with the pool counts in other units.
    other = Integers(**{**vars(pooled), "scale": pooled.scale * np.float32(factor)})
    found = added(writer, source, other, node, "sum")
    padded = F.pad(values, (0, 1, 0, 1), value=-torch.inf)
    expected = scale * values + factor * scale * F.max_pool2d(padded, 2, 1)
    assert (run(writer, found, values) * found.scale[0]).equal(expected)


def test_a_sum_of_a_tensor_and_a_multiple_of_itself_has_the_sum_of_both_scales():
    writer = LayerWriter("x")
    source = entering(writer, (1, CHANNELS, 2, 2), -2, 3, 0.5)
    node = helper.make_node("Add", ["x", "x"], ["y"], "sum")
    for factor in (1, 2):
        other = Integers(**{**vars(source), "scale": source.scale * np.float32(factor)})
        found = added(writer, source, other, node, "sum")
        assert (found.tensor, float(found.scale[0])) == (source.tensor, 0.5 + 0.5 * factor)
