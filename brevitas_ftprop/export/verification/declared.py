"""What a QONNX file says of its integers, beside what the model's quantizers hold.

An executor may give the right numbers whatever type a node declares; a compiler builds from it.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto

from ...levels import LevelFunction
from ..integer_types import integer_range
from ..node_attributes import attribute_values
from ..tags import Site

# As Brevitas' quantizers.
MOST_BITS = 32


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
        options = attribute_values(node)
        if node.op_type == "MultiThreshold":
            prefix = "INT" if function.signed else "UINT"
            return options["out_dtype"] != f"{prefix}{function.bit_width}"
        if node.op_type == "Quant":
            bits = float(onnx.numpy_helper.to_array(constants[node.input[3]]))
            # Of any other width it is no quantizer's.
            if not (bits.is_integer() and 1 <= bits <= MOST_BITS):
                return True
            signed, narrow = bool(options["signed"]), bool(options["narrow"])
            declared = integer_range(int(bits), signed=signed, narrow=narrow)
            return declared != (function.level_values[0], function.level_values[-1])
    return False
