"""Export to QONNX: Quant, BipolarQuant and MultiThreshold nodes, for FINN and its relatives."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from ..handlers.qonnx import BREVITAS_ROUNDINGS
from ..levels import ROUNDING_NAMES
from .cleaning import check_graph, clean_graph, clean_qonnx
from .formats import QONNX
from .onnx_file import export_file
from .remedy import built_or_remedied
from .tracing import trace


def export_qonnx(
    model: Module,
    example_input: Tensor,
    path: str | os.PathLike[str],
    *,
    dynamo: bool = True,
    overwrite: bool = False,
) -> Path:
    """Export a Brevitas model to a clean QONNX file.

    The graph has gone through QONNX's cleanup, holds no initializer among its inputs, and names
    each quantizer's nodes after the PyTorch quantizer, which ``verify_export`` relies on. The model
    keeps its training flags, caches and values, and the file is written whole or not at all.

    Args:
        model: float32 model on the CPU with Brevitas layers.
        example_input: float32 tensor (N, …); N becomes the batch size of the file.
        path: where to write.
        dynamo: use the torch.export-based exporter; False uses TorchScript.
        overwrite: replace an existing file.

    Returns:
        The path written.

    Raises:
        TypeError, ValueError: for a model or input that cannot be exported.
        OSError: if the file exists already, or cannot be written.
        ExportError: if the exporter fails; names the layer where that is known.

    >>> import tempfile, torch, brevitas.nn as qnn
    >>> model = torch.nn.Sequential(qnn.QuantIdentity(), qnn.QuantLinear(4, 2, bias=False))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_qonnx(model, torch.zeros(1, 4), f"{folder}/model.onnx", dynamo=False).name
    'model.onnx'
    """

    def build() -> ModelProto:
        graph = qonnx_graph(model, example_input, dynamo=dynamo)
        check_graph(graph)
        return graph

    return export_file(build, model, example_input, path, overwrite=overwrite)


def qonnx_graph(
    model: Module, example_input: Tensor, *, dynamo: bool, notes: Collection[str] = ()
) -> ModelProto:
    """The graph that ``export_qonnx`` writes if it is valid.

    Args:
        model, example_input, dynamo: as for ``export_qonnx``, which checks them.
        notes: keys of further metadata that its nodes keep.

    Raises:
        ExportError: if the exporter fails; with the remedy ``dynamo=False`` where there is one.
    """

    def build(dynamo: bool) -> ModelProto:
        graph = trace(QONNX, model, example_input, dynamo=dynamo)
        graph = clean_graph(graph, notes)
        _name_roundings(graph)
        return clean_graph(clean_qonnx(graph), notes)

    return built_or_remedied(build, dynamo=dynamo)


def _name_roundings(graph: ModelProto) -> None:
    """Give roundings QONNX's names where these are not Brevitas', in place."""
    names = {theirs.encode(): ROUNDING_NAMES[key] for key, theirs in BREVITAS_ROUNDINGS.items()}
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "rounding_mode" and attribute.s in names:
                attribute.s = names[attribute.s].encode()
