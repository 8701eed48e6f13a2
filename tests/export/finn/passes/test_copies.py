"""Concatenations and upsampling are rewritten without changing what they compute."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export.finn.passes import (
    PLAINER,
    AffineBehindConcat,
    ChannelsLastCopies,
    PlainUpsampling,
    QuantToThresholds,
)
from brevitas_ftprop.export.graph_reading import initializer
from brevitas_ftprop.export.qonnx import qonnx_graph

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
drawn = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 2**32 - 1)
# Operators with one number, or with one for each channel.
affine = st.lists(st.tuples(st.sampled_from(["Mul", "Add"]), st.booleans()), max_size=3)


@drawn
@given(st.lists(affine, min_size=2, max_size=4), st.sampled_from([(), (2, 3)]), seeds)
def test_factors_and_summands_of_branches_follow_behind_them(
    make_node, make_graph, execute, operators, branches, sizes, seed
):
    rng, nodes, constants, ends = np.random.default_rng(seed), [], {}, []
    for number, steps in enumerate(branches):
        nodes.append(make_node("Identity", ["x"], f"{number}"))
        for operator, is_by_channel in steps:
            source, name = nodes[-1].output[0], f"{nodes[-1].output[0]}c"
            shape = (1, 2, *(1,) * len(sizes)) if is_by_channel else ()
            constants[name] = rng.integers(-6, 7, shape) / 2
            nodes.append(make_node(operator, [source, name], f"{source}."))
        ends.append(nodes[-1].output[0])
    graph = make_graph(
        [*nodes, make_node("Concat", ends, "y", axis=1)], (1, 2, *sizes), **constants
    )
    changed = graph.transform(AffineBehindConcat())
    assert operators(changed)[: len(branches) + 1] == [*["Identity"] * len(branches), "Concat"]
    x = rng.integers(-9, 9, (1, 2, *sizes))
    np.testing.assert_array_equal(execute(changed, x), execute(graph, x))


def test_one_number_of_all_branches_stays_one(make_node, make_graph, operators):
    nodes = [make_node("Mul", ["x", "s"], "a"), make_node("Mul", ["x", "t"], "b")]
    nodes.append(make_node("Concat", ["a", "b"], "y", axis=1))
    graph = make_graph(nodes, (1, 2, 3, 3), s=0.3, t=[[[[0.3]]]]).transform(AffineBehindConcat())
    assert operators(graph) == ["Concat", "Mul"]
    assert initializer(graph, graph.graph.node[1].input[1]).size == 1


@pytest.mark.parametrize("waits", ["pooled", "forked", "rows"])
def test_factors_wait_for_those_on_their_way_and_stay_before_other_axes(
    make_node, make_graph, operators, waits
):
    nodes = [make_node("Mul", ["x", "s"], "a"), make_node("Mul", ["x", "s"], "b")]
    names = ["a", "b"]
    if waits == "pooled":
        nodes.append(make_node("MaxPool", ["b"], "p", kernel_shape=[1, 1]))
        names = ["a", "p"]
    if waits == "forked":
        nodes.append(make_node("Relu", ["b"], "unread"))
    nodes.append(make_node("Concat", names, "y", axis=2 if waits == "rows" else 1))
    graph = make_graph(nodes, (1, 2, 3, 3), s=0.5)
    assert operators(graph.transform(AffineBehindConcat())) == operators(graph)


@drawn
@given(
    st.lists(st.sampled_from(["up", "join", "join the first", "relu"]), min_size=1, max_size=5),
    st.booleans(),
    seeds,
)
def test_copies_of_channels_first_are_those_of_channels_last(
    make_node, make_graph, execute, operators, steps, is_behind, seed
):
    """A chain behind a Transpose, or before one; some of it joined with its start."""
    nodes, name, first = [], "x", "x"
    if not is_behind:
        nodes.append(make_node("Transpose", ["x"], "first", perm=FIRST))
        name = first = "first"
    sizes = {first: (1, 1)}
    for index, step in enumerate(steps):
        result = f"v{index}"
        if step == "up":
            nodes.append(make_node("Resize", [name, "", "s"], result, **NEAREST))
            sizes[result] = (sizes[name][0] * 2, sizes[name][1] * 3)
        elif step == "relu":
            nodes.append(make_node("Relu", [name], result))
            sizes[result] = sizes[name]
        else:
            other = first if "first" in step and sizes[first] == sizes[name] else name
            nodes.append(make_node("Relu", [other], f"{result}r"))
            nodes.append(make_node("Concat", [f"{result}r", name], result, axis=1))
            sizes[result] = sizes[name]
        name = result
    nodes.append(make_node("Transpose" if is_behind else "Relu", [name], "y"))
    if is_behind:
        nodes[-1] = make_node("Transpose", [name], "y", perm=LAST)
    shape = (1, 2, 2, 3)
    graph = make_graph(nodes, shape, s=np.array([1, 1, 2, 3]) * 1.0)
    changed = graph.transform(ChannelsLastCopies())
    x = np.random.default_rng(seed).integers(-9, 9, shape)
    np.testing.assert_array_equal(execute(changed, x), execute(graph, x))
    for node in changed.graph.node:
        beside = [changed.find_producer(n) for n in node.input if n]
        turned = [n for n in beside if n is not None and n.op_type == "Transpose"]
        if node.op_type in ("Concat", "Resize"):
            assert not any(list(n.attribute[0].ints) == FIRST for n in turned)


NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}


def signed(bits: int = 4) -> nn.Module:
    return qnn.QuantIdentity(Int8ActPerTensorFixedPoint, bit_width=bits)


def conv(entering: int, leaving: int, **options) -> nn.Module:
    options |= {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4}
    return qnn.QuantConv2d(entering, leaving, 3, padding=1, bias=False, **options)


class Copying(nn.Module):
    """Branches, upsampling, and a scale for each channel before a depthwise layer."""

    def __init__(self, channels: int, factor: tuple[int, int], *, is_shared: bool) -> None:
        super().__init__()
        self.image, self.left, self.right = signed(), conv(2, channels), conv(2, 1)
        self.act = signed(3) if is_shared else nn.Identity()
        self.up = nn.Upsample(scale_factor=factor)
        self.again = qnn.QuantReLU(Uint8ActPerTensorFixedPoint, bit_width=3)
        self.scales = qnn.QuantIdentity(
            quant.TargetPropInt8ActPerChannelFloat,
            bit_width=4,
            scaling_per_output_type="channel",
            per_channel_broadcastable_shape=(1, channels + 1, 1, 1),
            scaling_stats_permute_dims=(1, 0, 2, 3),
            restrict_scaling_type="power_of_two",
        )
        self.each = conv(channels + 1, channels + 1, groups=channels + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.image(x)
        y = self.up(torch.cat([self.act(self.left(x)), self.act(self.right(x))], 1))
        return self.each(self.scales(self.again(y)))


def assert_same(model: nn.Module, x: torch.Tensor, *, dynamo: bool) -> None:
    with torch.no_grad():
        model(x)
        expected = model.eval()(x).numpy()
    graph = ModelWrapper(qonnx_graph(model, x, dynamo=dynamo))
    for each in (*PLAINER, QuantToThresholds, AffineBehindConcat, ChannelsLastCopies):
        graph = graph.transform(each())
    (found,) = execute_onnx(graph, {graph.graph.input[0].name: x.numpy()}).values()
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.booleans(), seeds)
def test_networks_give_what_pytorch_does_on_ties(channels, factor, is_shared, seed):
    x = torch.randint(-40, 41, (1, 2, 4, 5), generator=torch.Generator().manual_seed(seed)) / 16
    assert_same(Copying(channels, factor, is_shared=is_shared), x, dynamo=False)


def test_graphs_of_the_dynamo_exporter_do_too():
    x = torch.randint(-40, 41, (1, 2, 4, 5)) / 16
    assert_same(Copying(3, (2, 1), is_shared=True), x, dynamo=True)


@pytest.mark.parametrize("size", [(12, 8), (4, 9), (6, 6)])
def test_upsampling_to_a_size_gets_its_factors_where_they_are_whole(size):
    model = nn.Sequential(signed(), nn.Upsample(size=size))
    x = torch.randint(-40, 41, (1, 2, 4, 4)) / 16
    model(x)
    graph = ModelWrapper(qonnx_graph(model.eval(), x, dynamo=False))
    changed = graph.transform(PlainUpsampling())
    (node,) = changed.get_nodes_by_op_type("Resize")
    assert len(node.input) == (3 if size == (12, 8) else 4)
    (found,) = execute_onnx(changed, {graph.graph.input[0].name: x.numpy()}).values()
    np.testing.assert_array_equal(found, model(x).detach().numpy())
