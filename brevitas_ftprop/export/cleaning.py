"""Bring exported graphs into one plain form."""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx_ir
from onnx import ModelProto
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model

from .errors import ExportError
from .node_attributes import keep
from .quiet import silence
from .tags import CALL, QUANTIZER

PRODUCER = "brevitas_ftprop"


# In this order, so that what one of them makes superfluous the next one removes.
PASSES = (
    LiftConstantsToInitializersPass(size_limit=0),
    RemoveInitializersFromInputsPass(),
    RemoveUnusedNodesPass(),
    RemoveUnusedOpsetsPass(),
)


def clean_graph(model: ModelProto, notes: Collection[str] = ()) -> ModelProto:
    """A graph in which nothing is left over.

    Its constants are initializers, no initializer is a graph input or goes unused, every operator
    domain that is used is imported once, and of the exporter's notes (local paths, stack traces,
    names of its own) only our quantizer tags are left, and ``notes``, by their keys.
    """
    graph = onnx_ir.from_proto(model)
    for each in PASSES:
        each(graph)
    cleaned = onnx_ir.to_proto(graph)
    # onnx_ir adds what initializers tell themselves.
    told = {info.name for info in model.graph.value_info}
    keep(cleaned.graph.value_info, lambda info: info.name in told)
    _strip_notes(cleaned, {QUANTIZER, CALL, *notes})
    cleaned.producer_name = PRODUCER
    cleaned.producer_version = ""
    return cleaned


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
    try:
        with silence():
            return cleanup_model(ModelWrapper(model)).model
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"export failed in QONNX's cleanup: {reason}") from error


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
        keep(entry.metadata_props, lambda note: note.key in kept)
