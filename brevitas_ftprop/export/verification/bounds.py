"""Evaluate a graph in float64, with a bound on what float32 arithmetic may make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor

from ..graph_edits import GENERAL
from ..node_attributes import attribute_values
from ..tags import is_tagged
from .assumed import assumed
from .bound_quantizers import QUANTIZERS
from .bound_steps import STEPS
from .bound_sums import SUMS
from .rounding import Bounded, UnboundedError, exactly

OPERATORS: dict[str, Callable[..., Bounded]] = {**SUMS, **STEPS}
# By the domains of their operators.
DOMAINS = {"": OPERATORS, "ai.onnx": OPERATORS, GENERAL: QUANTIZERS}


def evaluate(
    model: ModelProto, known: Mapping[str, Tensor | Bounded], *, assume: bool = False
) -> dict[str, Bounded]:
    """Every tensor of a graph that can be computed, in float64 with its float32 error bound.

    Tensors in ``known`` are taken as they are (without error, unless given with one) and not
    computed. For a sum
    of K products the bound is K·u·Σ|w·x| plus the errors of the inputs, with u = 2⁻²⁴, and zero
    where the sum is exact in float32 in any order: all products are multiples of one power of two,
    and Σ|w·x| stays within 2²⁴ of it. Quantizers of activations and weights, and what depends on an
    operator without a bound, are left out.

    Args:
        model: a graph in topological order.
        known: graph inputs, and outputs of nodes that are not to be computed, by name.
        assume: go on behind operators without a bound, with a tolerance instead (see ``assumed``).

    >>> node = onnx.helper.make_node("Relu", ["x"], ["y"])
    >>> graph = onnx.helper.make_graph([node], "relu", [], [])
    >>> evaluate(onnx.helper.make_model(graph), {"x": torch.tensor([-1.0, 2.0])})["y"].value
    tensor([0., 2.], dtype=torch.float64)
    """
    tensors = {
        name: value if isinstance(value, Bounded) else exactly(value)
        for name, value in known.items()
    }
    for initializer in model.graph.initializer:
        if initializer.name not in tensors:
            array = np.array(onnx.numpy_helper.to_array(initializer))
            tensors[initializer.name] = exactly(torch.from_numpy(array))
    with torch.no_grad():
        for node in model.graph.node:
            missing = any(name and name not in tensors for name in node.input)
            if missing or node.output[0] in tensors or is_tagged(node):
                continue
            inputs = [tensors[name] if name else None for name in node.input]
            try:
                operator = DOMAINS[node.domain][node.op_type]
                tensors[node.output[0]] = operator(attribute_values(node), *inputs)
            except (KeyError, UnboundedError):
                if assume:
                    with suppress(UnboundedError):
                        tensors[node.output[0]] = assumed(model, node, inputs)
    return tensors


def unbounded_operators(model: ModelProto, bounded: Mapping[str, Bounded]) -> list[str]:
    """Types of the operators at which ``evaluate`` had to stop, sorted; quantizers are none."""
    return sorted(
        {
            node.op_type
            for node in model.graph.node
            if node.output[0] not in bounded
            and all(not name or name in bounded for name in node.input)
            and not is_tagged(node)
        }
    )
