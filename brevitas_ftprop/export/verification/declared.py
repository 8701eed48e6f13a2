"""What a QONNX file says of its integers, beside what the model's quantizers hold.

An executor may give the right numbers whatever type a node declares; a compiler builds from it.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto

from ...levels import LevelFunction
from ..tags import Site

__all__ = ["declares_otherwise"]


def declares_otherwise(model: ModelProto, site: Site, function: LevelFunction) -> bool:
    """Whether a quantizer's node declares another range, signedness or number of bits.

    Args:
        model: the exported graph.
        site: the quantizer in it.
        function: the quantizer in PyTorch.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for index in site.nodes:
        node = model.graph.node[index]
        if node.op_type == "MultiThreshold":
            prefix = "INT" if function.signed else "UINT"
            return _attribute(node, "out_dtype") != f"{prefix}{function.bit_width}".encode()
        if node.op_type == "Quant":
            bits = float(onnx.numpy_helper.to_array(constants[node.input[3]]))
            return _range(node, bits) != (function.level_values[0], function.level_values[-1])
    return False


def _range(node: NodeProto, bits: float) -> tuple[float, float]:
    is_signed, is_narrow = (bool(_attribute(node, name)) for name in ("signed", "narrow"))
    if is_signed:
        return -(2 ** (bits - 1)) + is_narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - is_narrow


def _attribute(node: NodeProto, name: str):
    return next(onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)
