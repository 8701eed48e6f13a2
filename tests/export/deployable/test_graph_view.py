"""A graph is indexed once, and tells what qonnx tells of it node by node."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from brevitas_ftprop.export.accelerator_io import AcceleratorIO
from brevitas_ftprop.export.deployable.graph_view import GraphView, trace_view
from brevitas_ftprop.models import QuantResNet18


@pytest.fixture(scope="module", params=["finn", pytest.param("qcdq", marks=pytest.mark.slow)])
def view(request) -> GraphView:
    model = QuantResNet18(10, "cifar", base=4, act="int2", form="hardware").eval()
    images = torch.zeros(1, 3, 32, 32)
    return trace_view(model, images, request.param, dynamo=False, io=AcceleratorIO())


def tensors(graph: ModelWrapper) -> list[str]:
    read = {name for node in graph.graph.node for name in (*node.input, *node.output) if name}
    return [*sorted(read), "a name of no tensor"]


def names(nodes: list[NodeProto]) -> list[str]:
    return [node.output[0] for node in nodes]


def test_producers_readers_shapes_and_constants_are_those_of_qonnx(view):
    graph = view.graph
    for name in tensors(graph):
        producer, found = graph.find_producer(name), view.producer(name)
        assert (found and found.output[0]) == (producer and producer.output[0])
        assert names(view.consumers(name)) == names(graph.find_consumers(name))
        assert view.shape(name) == (graph.get_tensor_shape(name) or [])
        assert type(view.constant(name)) is type(graph.get_initializer(name))
        np.testing.assert_array_equal(view.constant(name), graph.get_initializer(name))


def test_what_depends_on_the_input_is_found_from_the_end_backwards_too(view):
    graph = view.graph
    pending, needed = [view.output], set()
    while pending:
        name = pending.pop()
        producer = graph.find_producer(name)
        if name not in needed:
            needed.add(name)
            pending += [] if producer is None else producer.input
    for name in needed:
        upstream, seen = [name], set()
        while upstream:
            producer = graph.find_producer(last := upstream.pop())
            if last not in seen:
                seen.add(last)
                upstream += [] if producer is None else producer.input
        assert view.is_computed(name) is (view.input in seen)


def test_a_tensor_that_a_node_reads_twice_has_that_reader_twice(view):
    node = view.graph.graph.node[0]
    twice = deepcopy(view.graph.model)
    added = twice.graph.node.add(op_type="Add", output=["doubled"])
    added.input.extend([node.output[0]] * 2)
    changed = replace(view, graph=ModelWrapper(twice))
    assert names(changed.consumers(node.output[0])).count("doubled") == 2
