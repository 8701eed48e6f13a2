"""Bring exported graphs into one plain form."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import GraphProto, ModelProto

from .errors import ExportError
from .quiet import silence
from .tags import CALL, QUANTIZER

__all__ = ["check_graph", "clean_graph", "clean_qonnx"]

PRODUCER = "brevitas_ftprop"


def clean_graph(model: ModelProto, notes: Collection[str] = ()) -> None:
    """Clean a graph in place.

    Afterwards constants are initializers, no initializer is a graph input or goes unused, every
    operator domain that is used is imported once, and of the exporter's notes (local paths, stack
    traces, names of its own) only our quantizer tags are left, and ``notes``, by their keys.
    """
    graph = model.graph
    _lift_constants(graph)
    _drop_unused(graph)
    initializers = {tensor.name for tensor in graph.initializer}
    _keep(graph.input, lambda entry: entry.name not in initializers)
    _strip_notes(model, {QUANTIZER, CALL, *notes})
    _import_used_domains(model)
    model.producer_name = PRODUCER
    model.producer_version = ""


def check_graph(model: ModelProto) -> None:
    """Raise unless a graph is valid ONNX, its tensors' types and shapes included.

    Raises:
        ExportError: says what is wrong with it.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"export failed: the graph is not valid ONNX: {reason}") from error


def clean_qonnx(model: ModelProto) -> ModelProto:
    """QONNX's own cleanup: shapes inferred, constants folded, readable names.

    Raises:
        ExportError: if it fails, for one on an operator that it does not know.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    try:
        with silence():
            return cleanup_model(ModelWrapper(model)).model
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"export failed in QONNX's cleanup: {reason}") from error


def _lift_constants(graph: GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
    lifted = {tensor.name for tensor in graph.initializer}
    _keep(graph.node, lambda node: node.op_type != "Constant" or node.output[0] not in lifted)


def _drop_unused(graph: GraphProto) -> None:
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    _keep(graph.initializer, lambda tensor: tensor.name in used)
    known = used.union(*(node.output for node in kept))
    _keep(graph.value_info, lambda info: info.name in known)


def _strip_notes(model: ModelProto, kept: Collection[str]) -> None:
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    for entry in (
        model,
        graph,
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
        *graph.value_info,
    ):
        entry.doc_string = ""
        _keep(entry.metadata_props, lambda note: note.key in kept)


def _import_used_domains(model: ModelProto) -> None:
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(entry.version, versions.get(domain, 0))
    used = {"", *("" if n.domain == "ai.onnx" else n.domain for n in model.graph.node)}
    del model.opset_import[:]
    for domain in sorted(used):
        model.opset_import.append(onnx.helper.make_opsetid(domain, versions.get(domain, 1)))


def _keep(entries, condition) -> None:
    kept = [entry for entry in entries if condition(entry)]
    if len(kept) < len(entries):
        del entries[:]
        entries.extend(kept)
