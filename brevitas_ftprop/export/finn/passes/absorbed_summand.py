"""Constants that are added before a quantizer."""

from __future__ import annotations

import numpy as np
import torch
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ....levels import smallest_reaching
from ...graph_edits import LARGEST, add_constant, replace, rewired
from ...graph_reading import initializer, read_constant, shape_of


class AbsorbSummandIntoThresholds(Transformation):
    """Take the ``Add`` of a bias into the ``MultiThreshold`` behind it, to the last bit.

    Each threshold becomes the smallest float32 that reaches it once the bias is added, as float32
    adds. FINN subtracts the two; where they lie on one grid, as a quantized bias of a
    power-of-two scale and the sums do, the difference is rounded onto the tie that the threshold
    was to keep away from.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for add in model.get_nodes_by_op_type("Add"):
            readers = model.find_consumers(add.output[0])
            if len(readers) != 1 or readers[0].op_type != "MultiThreshold":
                continue
            summand = _summand(model, add)
            if summand is not None:
                source, values = summand
                (quantizer,) = readers
                absorbed = rewired(quantizer, source, quantizer.output[0])
                thresholds = _shifted(read_constant(model, quantizer.input[1]), values)
                absorbed.input[1] = add_constant(model, thresholds)
                replace(model, [add, quantizer], [absorbed])
                return model, True
        return model, False


def _summand(model: ModelWrapper, add: NodeProto) -> tuple[str, np.ndarray] | None:
    """What is computed, and what is added to it: one number, or one a channel."""
    for source, name in (add.input, reversed(add.input)):
        values = initializer(model, name)
        if values is None:
            continue
        shape = shape_of(model, source)
        by_channel = (1, shape[1], *(1,) * (len(shape) - 2))
        if values.size == 1 or np.broadcast_shapes(values.shape, by_channel) == by_channel:
            return source, values.reshape(-1)
    return None


def _shifted(thresholds: np.ndarray, summand: np.ndarray) -> np.ndarray:
    rows = np.broadcast_to(thresholds, (max(len(thresholds), summand.size), thresholds.shape[1]))
    reached = torch.from_numpy(rows.astype(np.float32))
    added = torch.from_numpy(summand.astype(np.float32))[:, None]
    shifted = smallest_reaching(lambda x: x + added >= reached, reached.shape)
    return np.clip(shifted.numpy(), -LARGEST, LARGEST)
