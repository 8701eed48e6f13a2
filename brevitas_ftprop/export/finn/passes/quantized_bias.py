"""Biases that a quantizer gives."""

from __future__ import annotations

import numpy as np
import torch
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_constant
from ...graph_reading import initializer
from ...node_attributes import attribute_values
from ...quant_nodes import quant_levels

# Where a layer reads its bias.
BIAS = 2
LAYERS = ("Conv", "ConvTranspose", "Gemm")


class FoldQuantizedBias(Transformation):
    """Compute a bias' ``Quant`` node once, in float32, and let the layer read its result.

    All that it reads is constant, as the scale of an ``Int32Bias`` is, the product of the scales
    of input and weights. FINN's conversion would give all its parameters, scalars too, the
    shape of the channels.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for layer in model.graph.node:
            if layer.op_type not in LAYERS or len(layer.input) <= BIAS:
                continue
            quantizer = model.find_producer(layer.input[BIAS])
            if quantizer is None or quantizer.op_type != "Quant":
                continue
            read = [initializer(model, name) for name in quantizer.input]
            values = [value for value in read if value is not None]
            if len(values) == len(read):
                layer.input[BIAS] = add_constant(model, _quantized(quantizer, values))
                if not model.find_consumers(quantizer.output[0]):
                    model.graph.node.remove(quantizer)
                return model, True
        return model, False


def _quantized(node: NodeProto, values: list[np.ndarray]) -> np.ndarray:
    bias, scale, zero_point = (torch.from_numpy(v.astype(np.float32)) for v in values[:3])
    function = quant_levels(attribute_values(node), scale, zero_point, int(values[3].item()))
    return function.dequantize(function.levels(bias)).numpy()
