"""Concatenations and upsampling with the channels last."""

from __future__ import annotations

import onnx
from onnx import NodeProto
from qonnx.core import data_layout
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...copy_nodes import joins_channels
from ...graph_edits import add_constant, add_tensor, replace, rewired
from ...graph_reading import read_constant, shape_of
from ...node_attributes import integers_in
from .plain_upsampling import SCALES

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class ChannelsLastCopies(Transformation):
    """Let a ``Concat`` of channels or a ``Resize`` work on (N, H, W, C), where one beside it does.

    A ``Transpose`` to channels last before it meets the one to channels first, or is put there; one
    to channels first follows. FINN's own look at one reader of a tensor only, and take it for one
    that reads nothing else.

    References:
        finn-plus 1.6.1, ``MakeScaleResizeNHWC``, ``AbsorbTransposeIntoResize`` and
        ``MoveTransposePastJoinConcat``.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            if node.op_type not in ("Concat", "Resize"):
                continue
            rank = len(shape_of(model, node.output[0]))
            is_copy = node.op_type == "Resize" or joins_channels(node, rank)
            if rank == 4 and is_copy and _meets(model, node):
                _turn(model, node)
                return model, True
        return model, False


def _meets(model: ModelWrapper, node: NodeProto) -> bool:
    """Whether a Transpose stands directly before or behind a node of channels first."""
    if node.op_type == "Resize" and read_constant(model, node.input[SCALES])[1] != 1:
        return False
    before = [model.find_producer(name) for name in _read(node)]
    behind = model.find_consumers(node.output[0])
    return any(_is(n, FIRST) for n in before) or any(_is(n, LAST) for n in behind)


def _read(node: NodeProto) -> list[str]:
    return list(node.input) if node.op_type == "Concat" else [node.input[0]]


def _is(node: NodeProto | None, order: list[int]) -> bool:
    return node is not None and integers_in(node, "perm", []) == order


def _turn(model: ModelWrapper, node: NodeProto) -> None:
    new, last, turned_back = [], [], []
    for name in _read(node):
        producer = model.find_producer(name)
        if producer is not None and _is(producer, FIRST):
            last.append(producer.input[0])
            # Nobody else reads it.
            turned_back += [producer] if len(model.find_consumers(name)) == 1 else []
        else:
            last.append(_transposed(model, name, LAST, new))
    shape = shape_of(model, node.output[0])
    result = add_tensor(model, [shape[axis] for axis in LAST])
    turned = rewired(node, last[0], result)
    turned.input[: len(last)] = last
    if node.op_type == "Resize":
        scales = read_constant(model, node.input[SCALES])
        turned.input[SCALES] = add_constant(model, scales[LAST])
    else:
        for attribute in turned.attribute:
            attribute.i = 3 if attribute.name == "axis" else attribute.i
    for name in (*last, result):
        model.set_tensor_layout(name, data_layout.NHWC)
    back = onnx.helper.make_node("Transpose", [result], [node.output[0]], perm=FIRST)
    replace(model, [*turned_back, node], [*new, turned, back])


def _transposed(model: ModelWrapper, name: str, order: list[int], new: list[NodeProto]) -> str:
    shape = shape_of(model, name)
    result = add_tensor(model, [shape[axis] for axis in order])
    new.append(onnx.helper.make_node("Transpose", [name], [result], perm=order))
    return result
