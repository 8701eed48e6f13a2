"""What leaves a dataflow accelerator: integers instead of their multiples."""

from __future__ import annotations

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_reading import initializer

# Key of the metadata that holds what a graph's integers are multiplied with.
OUTPUT_SCALE = "brevitas_ftprop.output_scale"


class IntegerOutput(Transformation):
    """Leave out the factor behind the last integers of a graph, and note it in its metadata.

    The last node is a ``Mul`` of integers with one positive number, ``OUTPUT_SCALE`` in the
    metadata; without such a node the result has to be integers, and the factor is 1.

    Raises:
        ValueError: if the result is not integers times one positive number.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        output = model.graph.output[0].name
        node, factor, integers = model.find_producer(output), np.ones(1), output
        if node is not None and node.op_type == "Mul":
            factor, integers = initializer(model, node.input[1]), node.input[0]
        kind = model.get_tensor_datatype(integers)
        if factor is None or factor.size > 1 or factor.item() <= 0 or not kind.is_integer():
            raise ValueError("the logits are not integers times one positive number")
        if integers != output:
            before = model.find_producer(integers)
            assert node is not None
            assert before is not None
            model.graph.node.remove(node)
            before.output[0] = output
            for reader in model.find_consumers(integers):
                reader.input[list(reader.input).index(integers)] = output
            model.set_tensor_datatype(output, kind)
        model.set_metadata_prop(OUTPUT_SCALE, repr(factor.item()))
        return model, False
