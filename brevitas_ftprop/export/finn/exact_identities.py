"""Sums and products are removed where they change nothing, not where they change little."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["remove_exact_identities_only"]

NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}


def remove_exact_identities_only() -> None:
    """Let QONNX's ``RemoveIdentityOps`` keep constants that are near 0 or 1.

    It takes a shift below 1e-5 for none. A batch norm that gives values as small is then lost, and
    with it the thresholds that follow.

    References:
        qonnx 1.0.0, ``qonnx.transformation.remove.RemoveIdentityOps``.
    """
    from qonnx.transformation.remove import RemoveIdentityOps

    RemoveIdentityOps.apply = _apply


def _apply(self: Any, model: Any) -> tuple[Any, bool]:
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.remove import remove_node_and_rewire

    removed = [node for node in model.graph.node if _is_identity(model, node)]
    for node in removed:
        remove_node_and_rewire(model, node)
    return model.transform(InferShapes()), bool(removed)


def _is_identity(model: Any, node: Any) -> bool:
    if node.op_type not in NEUTRAL:
        return node.op_type == "Identity"
    constant = model.get_initializer(node.input[1])
    return constant is not None and bool(np.all(constant == NEUTRAL[node.op_type]))
