"""Small QONNX graphs, run by QONNX's own executor before and after a pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from brevitas_ftprop.export.tags import CALL, QUANTIZER

QONNX = "qonnx.custom_op.general"


def node(
    operator: str, inputs: list[str], output: str, *, tag: str = "", **attributes
) -> NodeProto:
    domain = QONNX if operator in ("Quant", "BipolarQuant", "MultiThreshold") else ""
    made = onnx.helper.make_node(operator, inputs, [output], domain=domain, **attributes)
    if tag:
        made.metadata_props.add(key=QUANTIZER, value=tag)
        made.metadata_props.add(key=CALL, value="0")
    return made


def graph_of(nodes: list[NodeProto], shape: tuple[int, ...], **constants) -> ModelWrapper:
    """A graph from ``x`` of a shape to ``y``, with constants by name."""
    graph = onnx.helper.make_graph(
        nodes,
        "test",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(QONNX, 2)]
    model = ModelWrapper(onnx.helper.make_model(graph, opset_imports=opsets))
    for name, value in constants.items():
        array = np.asarray(value)
        is_index = array.dtype == np.int64 and array.ndim == 1
        model.set_initializer(name, array if is_index else array.astype(np.float32))
    return model.transform(InferShapes())


def run(model: ModelWrapper, x: np.ndarray) -> np.ndarray:
    outputs = execute_onnx(model.transform(InferShapes()), {"x": x.astype(np.float32)})
    return outputs["y"]


@pytest.fixture
def make_node() -> Callable[..., NodeProto]:
    return node


@pytest.fixture
def make_graph() -> Callable[..., ModelWrapper]:
    return graph_of


@pytest.fixture
def execute() -> Callable[[ModelWrapper, np.ndarray], np.ndarray]:
    return run


@pytest.fixture
def operators() -> Callable[[ModelWrapper], list[str]]:
    return lambda model: [node.op_type for node in model.graph.node]
