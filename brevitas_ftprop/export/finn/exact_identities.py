"""Sums and products are removed where they change nothing, not where they change little."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.remove import RemoveIdentityOps, remove_node_and_rewire

NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}


def remove_exact_identities(
    self: RemoveIdentityOps, model: ModelWrapper
) -> tuple[ModelWrapper, bool]:
    """What ``RemoveIdentityOps.apply`` is to do: keep constants that are near 0 or 1.

    QONNX takes a shift below 1e-5 for none. A batch norm that gives values as small is then lost,
    and with it the thresholds that follow.

    References:
        qonnx 1.0.0, ``qonnx.transformation.remove.RemoveIdentityOps``.
    """
    removed = [node for node in model.graph.node if _is_identity(model, node)]
    for node in removed:
        remove_node_and_rewire(model, node)
    return model.transform(InferShapes()), bool(removed)


def _is_identity(model: ModelWrapper, node: NodeProto) -> bool:
    if node.op_type not in NEUTRAL:
        return node.op_type == "Identity"
    constant = model.get_initializer(node.input[1])
    return constant is not None and bool(np.all(constant == NEUTRAL[node.op_type]))
