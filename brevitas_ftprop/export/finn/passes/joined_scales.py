"""Scales of branches that are joined."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...copy_nodes import CHANNELS, joins_channels
from ...graph_edits import add_constant, add_tensor, replace, rewired
from ...graph_reading import initializer, read_constant, shape_of

NEUTRAL = {"Mul": 1.0, "Add": 0.0}
# What a factor may pass later on.
PASSED = ("Concat", "MaxPool", "Resize", "Transpose")


class AffineBehindConcat(Transformation):
    """Move factors and summands of branches behind the ``Concat`` of their channels.

    It then joins integers. One number that all branches have stays one; others become a number for
    each channel, 1 or 0 in a branch without one. A branch whose factor is on its way there is
    waited for. FINN's own wants one of the same kind in each.

    References:
        finn-plus 1.6.1, ``MoveAffinePastJoinConcat``.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for concat in model.get_nodes_by_op_type("Concat"):
            if not joins_channels(concat, len(shape_of(model, concat.output[0]))):
                continue
            if _has_one_number_again(model, concat):
                return model, True
            for operator in NEUTRAL:
                branches = [_branch(model, name, operator) for name in concat.input]
                others = [n for n, b in zip(concat.input, branches, strict=True) if b is None]
                if len(others) < len(branches) and all(_is_settled(model, n) for n in others):
                    _move(model, concat, operator, branches)
                    return model, True
        return model, False


def _has_one_number_again(model: ModelWrapper, concat: NodeProto) -> bool:
    """Whether factors behind a join were found to be equal; they are one number then."""
    for node in model.find_consumers(concat.output[0]):
        values = initializer(model, node.input[1]) if node.op_type == "Mul" else None
        if values is not None and values.size > 1 and np.unique(values).size == 1:
            node.input[1] = add_constant(model, values.reshape(-1)[0])
            return True
    return False


def _branch(model: ModelWrapper, name: str, operator: str) -> NodeProto | None:
    """The operation with numbers, at most one a channel, that gives a tensor only a join reads."""
    node = model.find_producer(name)
    if node is None or node.op_type != operator or len(model.find_consumers(name)) > 1:
        return None
    values, by_channel = initializer(model, node.input[1]), _by_channel(model, name)
    if values is None or name in [output.name for output in model.graph.output]:
        return None
    fits = values.size == 1 or np.broadcast_shapes(values.shape, by_channel) == by_channel
    return node if fits else None


def _by_channel(model: ModelWrapper, name: str) -> tuple[int, ...]:
    shape = shape_of(model, name)
    return 1, shape[CHANNELS], *(1,) * (len(shape) - 2)


def _is_settled(model: ModelWrapper, name: str) -> bool:
    """Whether no factor can come behind a tensor anymore."""
    node = model.find_producer(name)
    if node is None or node.op_type not in PASSED:
        return node is None or node.op_type != "Mul"
    return all(_is_settled(model, entry) for entry in node.input if entry)


def _move(
    model: ModelWrapper, concat: NodeProto, operator: str, branches: list[NodeProto | None]
) -> None:
    values, names = [], []
    for name, branch in zip(concat.input, branches, strict=True):
        neutral = np.array(NEUTRAL[operator])
        number = neutral if branch is None else read_constant(model, branch.input[1])
        values.append(np.broadcast_to(number, _by_channel(model, name)))
        names.append(name if branch is None else branch.input[0])
    joined = np.concatenate(values, axis=CHANNELS)
    joined = joined.reshape(-1)[0] if np.unique(joined).size == 1 else joined
    integers = add_tensor(model, shape_of(model, concat.output[0]))
    new = rewired(concat, names[0], integers)
    new.input[:] = names
    constant = add_constant(model, joined.astype(np.float32))
    behind = onnx.helper.make_node(operator, [integers, constant], [concat.output[0]])
    replace(model, [concat, *(branch for branch in branches if branch is not None)], [new, behind])
