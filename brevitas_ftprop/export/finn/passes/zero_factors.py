"""Channels that a batch norm of weight 0 makes constant, such as pruned ones."""

from __future__ import annotations

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_reading import read_constant

WEIGHT = 1


class UnsignedZeroFactors(Transformation):
    """Turn weights of -0 in ``BatchNormalization`` nodes into 0.

    FINN divides thresholds by them: all that a constant channel reaches would get out of reach.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            if node.op_type == "BatchNormalization":
                weight = read_constant(model, node.input[WEIGHT])
                # -0 + 0 is 0.
                model.set_initializer(node.input[WEIGHT], weight + np.float32(0))
        return model, False


class ReachConstantThresholds(Transformation):
    """Turn thresholds of 0/0 into -inf.

    FINN divides by a factor of 0 where the threshold equals what the factor leaves, so that it is
    reached; on a NaN its rounding of thresholds goes on for ever.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.get_nodes_by_op_type("MultiThreshold"):
            thresholds = read_constant(model, node.input[1])
            if np.isnan(thresholds).any():
                reached = np.where(np.isnan(thresholds), -np.inf, thresholds)
                model.set_initializer(node.input[1], reached.astype(thresholds.dtype))
        return model, False
