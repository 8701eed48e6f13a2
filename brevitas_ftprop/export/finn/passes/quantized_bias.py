"""Biases that a quantizer gives."""

from __future__ import annotations

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.general.quant import quant
from qonnx.transformation.base import Transformation

from ...graph_edits import add_constant
from ...graph_reading import attributes_of, initializer

# Where a layer reads its bias.
BIAS = 2


class FoldQuantizedBias(Transformation):
    """Compute a linear layer's ``Quant`` node of constants once, and let the layer read its result.

    The scale of an ``Int32Bias`` is constant, too: the product of the scales of input and weights.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for layer in model.graph.node:
            if layer.op_type != "Gemm" or len(layer.input) <= BIAS:
                continue
            quantizer = model.find_producer(layer.input[BIAS])
            if quantizer is None or quantizer.op_type != "Quant":
                continue
            read = [initializer(model, name) for name in quantizer.input]
            values = [value for value in read if value is not None]
            if len(values) == len(read):
                attributes = attributes_of(quantizer)
                options = [
                    attributes.get_nodeattr(name) for name in ("signed", "narrow", "rounding_mode")
                ]
                result = np.asarray(quant(*values, *options), np.float32)
                layer.input[BIAS] = add_constant(model, result)
                if not model.find_consumers(quantizer.output[0]):
                    model.graph.node.remove(quantizer)
                return model, True
        return model, False
