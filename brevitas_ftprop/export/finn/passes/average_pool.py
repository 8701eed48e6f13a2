"""Global averages in the one form that FINN knows."""

from __future__ import annotations

import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_tensor, replace
from ...graph_reading import shape_of
from ...node_attributes import integers_in, is_padded


class AveragePoolToGlobal(Transformation):
    """Write means over all positions, ``ReduceMean`` and ``AveragePool``, as ``GlobalAveragePool``.

    Exporters give the first for PyTorch's adaptive average pool, or ``x.mean((2, 3))``, whose
    result a ``Flatten`` brings to (N, C); the second stands for it where its window is the whole
    map. One with a ``Trunc`` behind it is FINN's QuantAvgPool2d.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            if node.op_type not in ("ReduceMean", "AveragePool"):
                continue
            before, after = (shape_of(model, n) for n in (node.input[0], node.output[0]))
            if len(before) != 4 or after not in ([*before[:2], 1, 1], before[:2]):
                continue
            if not _is_plain(node, before) or _is_truncated(model, node):
                continue
            averaged = node.output[0]
            new = [onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [averaged])]
            new[0].metadata_props.extend(node.metadata_props)
            if len(after) == 2:
                averaged = add_tensor(model, [*before[:2], 1, 1])
                new[0].output[0] = averaged
                new.append(onnx.helper.make_node("Flatten", [averaged], [node.output[0]], axis=1))
                new[1].metadata_props.extend(node.metadata_props)
            replace(model, [node], new)
            return model, True
        return model, False


def _is_truncated(model: ModelWrapper, node: onnx.NodeProto) -> bool:
    return any(reader.op_type == "Trunc" for reader in model.find_consumers(node.output[0]))


def _is_plain(node: onnx.NodeProto, shape: list[int]) -> bool:
    if node.op_type == "ReduceMean":
        return True
    return not is_padded(node) and integers_in(node, "kernel_shape", ()) == shape[2:]
