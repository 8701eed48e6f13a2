"""Signs of one bit, where every layer that reads them computes exactly that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import GENERAL, add_constant
from ...graph_reading import attributes_of, read_constant
from .reached import is_thresholded, move_thresholds, padding_in, readers


class OneBitSigns(Transformation):
    """Let a sign be the bit b of 2b - 1 where matrix products of ±1 weights read it.

    The ``MultiThreshold`` of a sign, -1 or 1 in two bits, gives 0 or 1 in one, and each ``MatMul``
    that reads it becomes an ``XnorPopcountMatMul``, which counts the p of its K products that are
    1: the sum is 2p - K. A threshold t on the sum is the threshold ``ceil((t + K) / 2)`` on p, so
    that nothing is left to compute, and for the class the counts compare as the sums do. Other
    ``MultiThreshold`` nodes may read the sign too, and windows that pad it with -1, which is the
    bit 0 that FINN pads with. All works on integers: the graph is streamlined.

    Where a padded 0 meets a sign, a layer of other weights reads it, or its sums go elsewhere than
    into thresholds or the class, it stays as it is.

    References:
        qonnx 1.0.0, ``ConvertBipolarMatMulToXnorPopcount`` (it writes 2p - K behind the count, and
        looks neither at paddings nor at forks).
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for sign in model.get_nodes_by_op_type("MultiThreshold"):
            reached = list(readers(model, sign.output[0]))
            if _is_sign(model, sign) and all(_takes_bits(model, node) for node in reached):
                _convert(model, sign, reached)
        return model, False


def _is_sign(model: ModelWrapper, node: NodeProto) -> bool:
    thresholds = read_constant(model, node.input[1])
    is_signed = attributes_of(node).get_nodeattr("out_bias") == -1
    return is_signed and thresholds.shape[1] == 2 and bool(np.ptp(thresholds, axis=1).max() == 0)


def _takes_bits(model: ModelWrapper, node: NodeProto | None) -> bool:
    if padding_in(node) not in (None, -1) or not is_thresholded(model, node, "TopK"):
        return False
    if node is None or node.op_type != "MatMul":
        return True
    return bool((np.abs(read_constant(model, node.input[1])) == 1).all())


def _convert(model: ModelWrapper, sign: NodeProto, reached: Sequence[Any]) -> None:
    sign.input[1] = add_constant(model, read_constant(model, sign.input[1])[:, :1])
    attributes = attributes_of(sign)
    attributes.set_nodeattr("out_dtype", "BINARY")
    attributes.set_nodeattr("out_bias", 0.0)
    model.set_tensor_datatype(sign.output[0], DataType["BINARY"])
    for node in reached:
        if node.op_type == "MultiThreshold":
            _on_counts(model, node, 1)
        elif node.op_type == "MatMul":
            _make_xnor(model, node)
        else:
            if node.op_type == "Im2Col":
                attributes_of(node).set_nodeattr("pad_value", 0)
            model.set_tensor_datatype(node.output[0], DataType["BINARY"])


def _make_xnor(model: ModelWrapper, node: NodeProto) -> None:
    weights = read_constant(model, node.input[1])
    node.op_type, node.domain = "XnorPopcountMatMul", GENERAL
    node.input[1] = add_constant(model, (weights + 1) / 2)
    model.set_tensor_datatype(node.input[1], DataType["BINARY"])
    model.set_tensor_datatype(node.output[0], DataType["UINT32"])
    (behind,) = model.find_consumers(node.output[0])
    if behind.op_type == "MultiThreshold":
        _on_counts(model, behind, len(weights))


def _on_counts(model: ModelWrapper, quantizer: NodeProto, products: int) -> None:
    """Let thresholds on a sum of so many products ±1 be those on how many are 1."""
    move_thresholds(model, quantizer, lambda sums: np.ceil((sums + products) / 2))
