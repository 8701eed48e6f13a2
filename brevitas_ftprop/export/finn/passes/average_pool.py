"""Global averages in the one form that FINN knows."""

from __future__ import annotations

from typing import Any

import onnx
from qonnx.transformation.base import Transformation

from .graph_edits import ints_of, is_padded, replace

__all__ = ["AveragePoolToGlobal"]


class AveragePoolToGlobal(Transformation):
    """Write means over all positions, ``ReduceMean`` and ``AveragePool``, as ``GlobalAveragePool``.

    Exporters give the first for PyTorch's adaptive average pool; the second stands for it where
    its window is the whole map.
    """

    def apply(self, model: Any):
        for node in model.graph.node:
            if node.op_type not in ("ReduceMean", "AveragePool"):
                continue
            before, after = (model.get_tensor_shape(n) for n in (node.input[0], node.output[0]))
            whole_map = [*before[:2], 1, 1] if len(before) == 4 else None
            if after != whole_map or not _is_plain(node, before):
                continue
            result = onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [node.output[0]])
            replace(model, [node], [result])
            return model, True
        return model, False


def _is_plain(node: onnx.NodeProto, shape: list[int]) -> bool:
    if node.op_type == "ReduceMean":
        return True
    return not is_padded(node) and ints_of(node, "kernel_shape", ()) == shape[2:]
