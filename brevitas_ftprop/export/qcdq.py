"""Export to standard ONNX: QuantizeLinear, Clip and DequantizeLinear nodes, for ONNX Runtime."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from .average_pools import make_average_pools_exact
from .cleaning import check_graph, clean_graph
from .errors import ExportError
from .formats import QCDQ
from .onnx_file import export_file
from .quantizer_fences import fence_quantizers
from .remedy import built_or_remedied
from .tracing import trace


def export_qcdq(
    model: Module,
    example_input: Tensor,
    path: str | os.PathLike[str],
    *,
    dynamo: bool = True,
    overwrite: bool = False,
) -> Path:
    """Export a Brevitas model to a clean standard-ONNX file with quantize-dequantize nodes.

    The file uses no custom domain and passes ONNX's checker; ONNX Runtime's optimizations are kept
    from changing its integers (see ``quantizer_fences``). It names each quantizer's nodes after
    the PyTorch quantizer, which ``verify_export`` relies on. The model keeps its training flags,
    caches and values, and the file is written whole or not at all.

    Args:
        model: float32 model on the CPU with Brevitas layers.
        example_input: float32 tensor (N, …); N becomes the batch size of the file.
        path: where to write.
        dynamo: use the torch.export-based exporter; False uses TorchScript, whose files ONNX
            Runtime may run wrongly at its higher optimization levels.
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
    ...     export_qcdq(model, torch.zeros(1, 4), f"{folder}/model.onnx", dynamo=False).name
    'model.onnx'
    """
    graph = partial(qcdq_graph, model, example_input, dynamo=dynamo)
    return export_file(graph, model, example_input, path, overwrite=overwrite)


def qcdq_graph(model: Module, example_input: Tensor, *, dynamo: bool) -> ModelProto:
    """The graph that ``export_qcdq`` writes; its arguments, which are checked there.

    Raises:
        ExportError: if the exporter fails; with the remedy ``dynamo=False`` where there is one.
    """

    def build(dynamo: bool) -> ModelProto:
        graph = trace(QCDQ, model, example_input, dynamo=dynamo)
        make_average_pools_exact(graph)
        graph = clean_graph(graph)
        fence_quantizers(graph)
        _check_standard(graph)
        return graph

    return built_or_remedied(build, dynamo=dynamo)


def _check_standard(graph: ModelProto) -> None:
    custom = sorted({f"{node.domain}::{node.op_type}" for node in graph.graph.node if node.domain})
    if custom:
        raise ExportError(f"export failed: not standard ONNX operators: {', '.join(custom)}")
    check_graph(graph)
