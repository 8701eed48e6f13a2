"""Where pooling and reshaping may stand once a quantizer compares integers with thresholds."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto

from .exported_graph import Graph
from .integers import RefusedNodeError

MOVES = ("MaxPool", "Reshape", "Flatten")


def ordered(
    graph: Graph, nodes: Sequence[NodeProto], layer: str
) -> tuple[list[NodeProto], list[NodeProto]]:
    """Bring all elementwise nodes together: these, and the moves that may follow them.

    The maximum of levels is the level of the maximum where the level rises, so a pooling moves
    behind the nodes that follow it if these rise.

    Args:
        graph: for the nodes' constants.
        nodes: what follows the integers of a layer, a quantizer last.
        layer: for messages.

    Raises:
        RefusedNodeError: if that would change the function; names the node.
    """
    moves = [index for index, node in enumerate(nodes) if node.op_type in MOVES]
    chain = [node for node in nodes if node.op_type not in MOVES]
    moved = [nodes[index] for index in moves]
    following = [n for n in nodes[moves[0] :] if n.op_type not in MOVES] if moves else []
    for node in following:
        operands = [operand for operand in graph.operands(node) if operand is not None]
        is_reshaped = any(n.op_type != "MaxPool" for n in moved)
        if is_reshaped and any(operand.size > 1 for operand in operands):
            raise RefusedNodeError(
                node,
                "has parameters for each channel behind a reshaping: put it before the reshaping, "
                f"next to {layer}",
            )
        if any(n.op_type == "MaxPool" for n in moved) and _falls(graph, node):
            raise RefusedNodeError(
                node,
                f"behind {layer} has negative factors and follows a max pooling that another "
                f"elementwise layer precedes: put the pooling directly behind {layer}",
            )
    return chain, moved


def _falls(graph: Graph, node: NodeProto) -> bool:
    """Whether a node's output falls in some channel where its input rises."""
    operands = graph.operands(node)
    if node.op_type == "BatchNormalization":
        factors = operands[1]
        return factors is not None and bool((factors < 0).any())
    if node.op_type == "Sub":
        return operands[0] is not None
    if node.op_type in ("Mul", "Div"):
        factors = next(operand for operand in operands if operand is not None)
        return bool((factors < 0).any())
    return False
