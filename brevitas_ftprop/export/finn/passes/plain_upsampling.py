"""Upsampling by copying, in the one form that FINN knows."""

from __future__ import annotations

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...copy_nodes import copies_of
from ...graph_edits import add_constant
from ...graph_reading import shape_of

# Where a Resize reads its factors.
SCALES = 2


class PlainUpsampling(Transformation):
    """Give each ``Resize`` by whole numbers its factors, instead of sizes, as constants of its own.

    FINN exchanges them when it brings channels last.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.get_nodes_by_op_type("Resize"):
            factors = copies_of(
                node, *(shape_of(model, n) for n in (node.input[0], node.output[0]))
            )
            if factors is not None:
                scales = add_constant(model, np.array(factors, np.float32))
                node.input[:] = [node.input[0], "", scales]
        return model, False
