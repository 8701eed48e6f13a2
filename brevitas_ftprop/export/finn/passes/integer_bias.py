"""The bias of a last layer among integers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...fixed_point_bias import fixed_point_bias
from ...graph_edits import add_constant, add_tensor, replace
from ...graph_reading import initializer, read_constant, scalar, shape_of
from ...integer_types import integer_type


class IntegerBias(Transformation):
    """Add the last layer's bias to its integers, before their scale instead of behind it.

    ``MatMul``, ``Mul`` by a positive number if it is not 1, ``Add``, and then the class or a
    ``Mul`` or nothing become ``MatMul``, ``Add`` of integers, ``Mul``. For the class a bias of no
    integers becomes one in fixed point, the sums being multiplied with a power of two before it;
    see ``fixed_point_bias``.

    Args:
        is_class: whether the graph ends in a ``TopK`` of one class.

    Raises:
        ExportError: if that cannot be exact.
    """

    def __init__(self, *, is_class: bool) -> None:
        super().__init__()
        self.is_class = is_class

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        add = self._last_sum(model)
        before = None if add is None else model.find_producer(add.input[0])
        if add is None or before is None:
            return model, False
        is_scaled = before.op_type == "Mul"
        scale = scalar(model, before.input[1]) if is_scaled else 1.0
        layer = model.find_producer(before.input[0]) if is_scaled else before
        if layer is None or layer.op_type != "MatMul" or scale is None or scale <= 0:
            return model, False
        weights = read_constant(model, layer.input[1])
        kind = model.get_tensor_datatype(layer.input[0])
        if not kind.is_integer():
            return model, False
        largest = max(abs(kind.min()), abs(kind.max()))
        bias = np.broadcast_to(read_constant(model, add.input[1]), (1, weights.shape[1]))[0]
        integers, bits = fixed_point_bias(
            bias,
            scale,
            largest * np.abs(weights).sum(0),
            len(weights),
            is_class=self.is_class,
        )
        old = [before, add] if is_scaled else [add]
        _rewrite(model, old, layer.output[0], scale, integers, bits)
        return model, False

    def _last_sum(self, model: ModelWrapper) -> NodeProto | None:
        name = model.graph.output[0].name
        if self.is_class:
            # A class is the second output of the node that finds it.
            name = next(n.input[0] for n in model.graph.node if n.op_type == "TopK")
        while (node := model.find_producer(name)) is not None and node.op_type == "Mul":
            name = node.input[0]
        if node is None or node.op_type != "Add":
            return None
        return node if initializer(model, node.input[1]) is not None else None


def _rewrite(
    model: ModelWrapper,
    old: list[NodeProto],
    source: str,
    scale: float,
    integers: np.ndarray,
    bits: int,
) -> None:
    shape, new = shape_of(model, source), []
    if bits:
        shifted = add_tensor(model, shape)
        new.append(_operation(model, "Mul", source, np.array([2.0**bits]), shifted))
        source = shifted
    summed = add_tensor(model, shape)
    new.append(_operation(model, "Add", source, integers, summed))
    factor = add_constant(model, np.array(scale, np.float32))
    new.append(onnx.helper.make_node("Mul", [summed, factor], [old[-1].output[0]]))
    replace(model, old, new)


def _operation(
    model: ModelWrapper, operator: str, source: str, integers: np.ndarray, result: str
) -> NodeProto:
    constant = add_constant(model, integers.astype(np.float32))
    kind = integer_type(int(integers.min()), int(integers.max()))
    model.set_tensor_datatype(constant, DataType[kind])
    return onnx.helper.make_node(operator, [source, constant], [result])
