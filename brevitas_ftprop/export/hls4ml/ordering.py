"""Where a layer's pooling and reshaping may stand once its quantizer compares integer sums."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from ..errors import ExportError
from .stages import MOVES, Graph, Stage, describe


@dataclass(frozen=True)
class Ordered:
    """What follows the sums of a layer, in the order in which it is written.

    Attributes:
        before: moves of the sums.
        chain: elementwise nodes, the quantizer last.
        behind: moves of the quantizer's integers.
    """

    before: list[NodeProto]
    chain: list[NodeProto]
    behind: list[NodeProto]


def ordered(graph: Graph, stage: Stage) -> Ordered:
    """Bring all elementwise nodes together.

    The maximum of levels is the level of the maximum where the level rises, so a pooling moves
    behind the nodes that follow it if these rise. A pooling of the sums themselves stays first.

    Raises:
        ExportError: if that would change the function; names the node.
    """
    moves = [index for index, node in enumerate(stage.body) if node.op_type in MOVES]
    chain = [node for node in stage.body if node.op_type not in MOVES]
    if not moves:
        return Ordered([], chain, [])
    moved = [stage.body[index] for index in moves]
    following = [n for n in stage.body[moves[0] :] if n.op_type not in MOVES]
    only_pools = all(node.op_type == "MaxPool" for node in moved)
    if only_pools and len(following) == len(chain):
        return Ordered(moved, chain, [])
    for node in following:
        operands = [operand for operand in graph.operands(node) if operand is not None]
        if not only_pools and any(operand.size > 1 for operand in operands):
            raise ExportError(
                f"{describe(node)} has parameters for each channel behind a reshaping: put it "
                f"before the reshaping, next to {stage.layer}"
            )
        if any(n.op_type == "MaxPool" for n in moved) and _falls(graph, node):
            raise ExportError(
                f"{describe(node)}, behind {stage.layer}, has negative factors and follows a max "
                "pooling that another elementwise layer precedes: put the pooling directly behind "
                f"{stage.layer}"
            )
    return Ordered([], chain, moved)


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
