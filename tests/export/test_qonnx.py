"""QONNX files are clean and complete."""

from __future__ import annotations

import onnx
from onnx import shape_inference

from brevitas_ftprop.export.quantizers import quantizer_proxies
from brevitas_ftprop.export.tags import sites_of


def test_only_quantizers_use_the_one_qonnx_domain(qonnx):
    graph = onnx.load(qonnx.path)
    domains = {entry.domain for entry in graph.opset_import}
    assert len(domains) == len(graph.opset_import)
    assert domains == {"", "qonnx.custom_op.general"}
    custom = {node.op_type for node in graph.graph.node if node.domain}
    assert custom <= {"Quant", "BipolarQuant", "MultiThreshold"}


def test_every_tensor_has_a_shape(qonnx):
    graph = onnx.load(qonnx.path)
    known = {entry.name for entry in (*graph.graph.value_info, *graph.graph.output)}
    assert {output for node in graph.graph.node for output in node.output} <= known


def test_names_are_readable(qonnx):
    graph = onnx.load(qonnx.path).graph
    assert [entry.name for entry in graph.input] == ["global_in"]
    assert [entry.name for entry in graph.output] == ["global_out"]
    assert len({node.name for node in graph.node}) == len(graph.node)


def test_each_quantizer_call_has_its_nodes(qonnx):
    calls = {(site.name, site.call) for site in sites_of(onnx.load(qonnx.path))}
    expected = {(name, 0) for name in quantizer_proxies(qonnx.model)}
    assert calls == expected | {("shared.act_quant", 1)}


def test_standard_shape_inference_accepts_the_graph(qonnx):
    shape_inference.infer_shapes(onnx.load(qonnx.path))
