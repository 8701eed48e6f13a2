"""Run the graphs of any step of the flow in Python."""

from __future__ import annotations

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from ..quiet import silence

HARDWARE = "finn.custom_op.fpgadataflow"
FORMS = ("rtl", "hls")


class CannotRunError(RuntimeError):
    """A graph whose nodes do not fit together."""


def executable(model: ModelWrapper) -> ModelWrapper:
    """A copy whose RTL and HLS layers, which want a simulator, are general again.

    The general layers run as FINN's own Python models.
    """
    general = ModelWrapper(model.model, make_deepcopy=True)
    for node in general.graph.node:
        for form in FORMS:
            if node.domain == f"{HARDWARE}.{form}":
                node.op_type = node.op_type.removesuffix(f"_{form}")
                node.domain = HARDWARE
    return general


def run(
    model: ModelWrapper, tensors: dict[str, np.ndarray], *, behind: str | None = None
) -> dict[str, np.ndarray]:
    """All tensors of a graph, by name.

    Args:
        model: as :func:`executable` gave it.
        tensors: the graph's input; with ``behind`` every tensor of a run before.
        behind: a tensor that has been changed since: only the nodes behind it are run again.

    Raises:
        CannotRunError: if a node cannot be run on what it is given.
    """
    start = None
    if behind is not None:
        nodes = list(model.graph.node)
        first = next(i for i, node in enumerate(nodes, start=1) if behind in node.output)
        if first == len(nodes):
            return tensors
        start = nodes[first]
        # Those that the run before has not computed, such as the names of absent inputs.
        tensors = {name: value for name, value in tensors.items() if value is not None}
    try:
        with silence():
            return execute_onnx(model, tensors, return_full_exec_context=True, start_node=start)
    # Layers whose shapes do not fit fail in any way.
    except Exception as error:
        raise CannotRunError(f"{type(error).__name__}: {error}") from error
