"""Signs of one bit, where every layer that reads them computes exactly that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import GENERAL, LARGEST, add_constant
from ...graph_reading import attributes_of, initializer, read_constant
from ...node_attributes import integers_in

# What moves or chooses among integers, each of them as it is.
PASSED = ("Flatten", "Im2Col", "MaxPool", "MaxPoolNHWC", "Reshape", "Transpose")


class OneBitSigns(Transformation):
    """Let a sign be the bit b of 2b - 1 where matrix products of ±1 weights read it.

    The ``MultiThreshold`` of a sign, -1 or 1 in two bits, gives 0 or 1 in one, and each ``MatMul``
    that reads it becomes an ``XnorPopcountMatMul``, which counts the p of its K products that are
    1: the sum is 2p - K. A threshold t on the sum is the threshold ``ceil((t + K) / 2)`` on p, so
    that nothing is left to compute, and for the class the counts compare as the sums do. Other
    ``MultiThreshold`` nodes may read the sign too, and convolutions that pad it with -1, which is
    the bit 0 that FINN pads with. All works on integers: the graph is streamlined.

    Where a padded 0 meets a sign, a layer of other weights reads it, or its sums go elsewhere than
    into thresholds or the class, it stays as it is.

    References:
        qonnx 1.0.0, ``ConvertBipolarMatMulToXnorPopcount`` (it writes 2p - K behind the count, and
        looks neither at paddings nor at forks).
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.get_nodes_by_op_type("MultiThreshold"):
            if _is_sign(model, node):
                readers = list(_readers(model, node.output[0]))
                if all(_takes_bits(model, reader) for reader in readers):
                    _convert(model, node, readers)
        return model, False


def _is_sign(model: ModelWrapper, node: NodeProto) -> bool:
    thresholds = read_constant(model, node.input[1])
    is_signed = attributes_of(node).get_nodeattr("out_bias") == -1
    return is_signed and thresholds.shape[1] == 2 and bool(np.ptp(thresholds, axis=1).max() == 0)


def _readers(model: ModelWrapper, name: str) -> Iterator[NodeProto | None]:
    """The nodes that a tensor reaches, those included that pass it on; None for the output."""
    consumers = model.find_consumers(name)
    if not consumers:
        yield None
    for node in consumers:
        yield node
        if node.op_type in PASSED:
            yield from _readers(model, node.output[0])


def _takes_bits(model: ModelWrapper, node: NodeProto | None) -> bool:
    if node is None:
        return False
    if node.op_type == "Im2Col":
        is_padded = any(integers_in(node, "pad_amount", [0]))
        return not is_padded or attributes_of(node).get_nodeattr("pad_value") == -1
    if node.op_type == "MatMul":
        weights = initializer(model, node.input[1])
        behind = model.find_consumers(node.output[0])
        is_one_bit = weights is not None and bool((np.abs(weights) == 1).all())
        return is_one_bit and len(behind) == 1 and behind[0].op_type in ("MultiThreshold", "TopK")
    return node.op_type in ("MultiThreshold", *PASSED)


def _convert(model: ModelWrapper, sign: NodeProto, readers: list[NodeProto]) -> None:
    sign.input[1] = add_constant(model, read_constant(model, sign.input[1])[:, :1])
    attributes = attributes_of(sign)
    attributes.set_nodeattr("out_dtype", "BINARY")
    attributes.set_nodeattr("out_bias", 0.0)
    model.set_tensor_datatype(sign.output[0], DataType["BINARY"])
    for node in readers:
        if node.op_type == "MultiThreshold":
            _count(model, node, 1)
            continue
        if node.op_type == "MatMul":
            _make_xnor(model, node)
            continue
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
        _count(model, behind, len(weights))


def _count(model: ModelWrapper, quantizer: NodeProto, products: int) -> None:
    """Let thresholds on a sum of so many products ±1 be those on how many are 1."""
    thresholds = read_constant(model, quantizer.input[1]).astype(np.float64)
    counted = np.clip(np.ceil((thresholds + products) / 2), -LARGEST, LARGEST)
    quantizer.input[1] = add_constant(model, counted.astype(np.float32))
