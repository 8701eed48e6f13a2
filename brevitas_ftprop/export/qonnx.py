"""Export to QONNX: Quant, BipolarQuant and MultiThreshold nodes, for FINN and its relatives."""

from __future__ import annotations

import os
from pathlib import Path

from brevitas.export.onnx.qonnx.manager import QONNXDynamoManager, QONNXManager
from torch import Tensor
from torch.nn import Module

from .checks import check_batch, check_model, check_target
from .cleaning import check_graph, clean_graph, clean_qonnx
from .onnx_file import write_atomically
from .tracing import trace

__all__ = ["export_qonnx"]

OPSET = 20


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
    check_model(model)
    check_batch(example_input, name="example_input")
    target = check_target(path, overwrite=overwrite)
    manager = QONNXDynamoManager if dynamo else QONNXManager
    graph = trace(manager, model, example_input, dynamo=dynamo, opset_version=OPSET)
    clean_graph(graph)
    graph = clean_qonnx(graph)
    clean_graph(graph)
    check_graph(graph)
    write_atomically(graph, target, overwrite=overwrite)
    return target
