"""The graph that hls4ml is given."""

from __future__ import annotations

from typing import Any

from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.infer_shapes import InferShapes

from ..errors import ExportError
from ..graph_reading import shape_of
from ..quiet import silence
from .integer_sums import IntegerSums
from .threshold_quant import MultiThresholdToQuant


def hardware_graph(graph: Any) -> Any:
    """Integer sums and saturating quantizers, channels last, each node named.

    Args:
        graph: the qonnx ``ModelWrapper`` of an exported QONNX file.

    Raises:
        ExportError: if a layer has no exact form (names it), or the model takes or gives other
            shapes than (N, C), (N, C, H, W) and (N, C).
    """
    ends = graph.graph.input[0], graph.graph.output[0]
    shapes = [tuple(shape_of(graph, end.name)) for end in ends]
    if len(shapes[0]) not in (2, 4) or len(shapes[1]) != 2:
        raise ExportError(
            "hls4ml projects take (N, C) or (N, C, H, W) and give (N, C), but the model takes "
            f"{shapes[0]} and gives {shapes[1]}"
        )
    with silence():
        graph = graph.transform(IntegerSums()).transform(InferShapes())
        # What a moved tie changes is compared, and excused only within the rounding bound.
        graph = graph.transform(MultiThresholdToQuant(slack=1))
        if len(shapes[0]) == 4:
            graph = graph.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
    for position, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{position}"
    return graph
