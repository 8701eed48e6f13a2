"""Keep ONNX Runtime from replacing float layers between quantizers by approximate integer ones."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from .tags import CALL, QUANTIZER, Site, sites_of

LOWEST = "brevitas_ftprop.lowest"


def fence_quantizers(model: ModelProto) -> None:
    """Put an exact no-op, ``Max(x, -3.4e38)``, at both ends of every layer, in place.

    That is before each activation's QuantizeLinear and behind each weight's DequantizeLinear. Where
    a convolution, Gemm or MatMul stands directly between such nodes, ONNX Runtime (1.25) rounds a
    float bias to integers and float weights to 8 bits (from the basic optimization level on), and
    from the extended level on computes with 8-bit inputs, saturating 16-bit sums (QLinearConv,
    QGemm) or rounded activations (MatMulNBits). All of these change integers. ONNX Runtime does not
    see through the Max, nor remove it.
    """
    graph = model.graph
    nodes: dict[int, list[NodeProto]] = {
        index: [onnx.NodeProto.FromString(node.SerializeToString())]
        for index, node in enumerate(graph.node)
    }
    computed = {output for node in graph.node for output in node.output}
    for site in sites_of(model):
        first, last = nodes[site.nodes[0]][0], nodes[site.nodes[-1]][0]
        if site.source is None and last.op_type == "DequantizeLinear":
            last.output[0] = f"{site.result}.unfenced"
            nodes[site.nodes[-1]].append(_fence(site, last.output[0], site.result))
        elif site.source in computed and first.op_type == "QuantizeLinear":
            first.input[0] = f"{site.name}#{site.call}.fenced"
            nodes[site.nodes[0]].insert(0, _fence(site, site.source, first.input[0]))
    if sum(map(len, nodes.values())) > len(graph.node):
        lowest = np.array(np.finfo(np.float32).min)
        graph.initializer.append(onnx.numpy_helper.from_array(lowest, LOWEST))
        del graph.node[:]
        graph.node.extend(node for group in nodes.values() for node in group)


def _fence(site: Site, source: str, result: str) -> NodeProto:
    name = f"{site.name}#{site.call}.fence"
    fence = onnx.helper.make_node("Max", [source, LOWEST], [result], name)
    fence.metadata_props.add(key=QUANTIZER, value=site.name)
    fence.metadata_props.add(key=CALL, value=str(site.call))
    return fence
