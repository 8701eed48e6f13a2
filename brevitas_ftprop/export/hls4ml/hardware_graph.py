"""The graph that hls4ml is given."""

from __future__ import annotations

from typing import Any

from qonnx.transformation.infer_shapes import InferShapes

from ..errors import ExportError
from ..graph_reading import shape_of
from ..height_one import HeightOne
from ..quiet import silence
from .channels_last import ChannelsLast
from .integer_sums import IntegerSums
from .threshold_quant import MultiThresholdToQuant


def hardware_graph(graph: Any) -> Any:
    """Integer sums and saturating quantizers, channels last, each node named.

    A network on signals (N, C, L) becomes one on images of height 1.

    Args:
        graph: the qonnx ``ModelWrapper`` of an exported QONNX file.

    Raises:
        ExportError: if a layer has no exact form (names it), or the model takes or gives other
            shapes than (N, C), (N, C, L) and (N, C, H, W).
    """
    with silence():
        graph = graph.transform(HeightOne()).transform(IntegerSums()).transform(InferShapes())
    ends = graph.graph.input[0], graph.graph.output[0]
    shapes = [tuple(shape_of(graph, end.name)) for end in ends]
    if any(len(shape) not in (2, 4) for shape in shapes):
        raise ExportError(
            "hls4ml projects take and give features (N, C), images (N, C, H, W) and, of networks "
            "with 1-D convolutions or pools, signals (N, C, L), but the model takes "
            f"{shapes[0]} and gives {shapes[1]}"
        )
    with silence():
        # What a moved tie changes is compared, and excused only within the rounding bound.
        graph = graph.transform(MultiThresholdToQuant(slack=1))
        graph = graph.transform(ChannelsLast())
    for position, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{position}"
    return graph
