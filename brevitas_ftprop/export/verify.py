"""Prove that an exported file computes what the PyTorch model computes."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Module

from .checks import check_batch, check_model
from .quantizers import kind_of, quantizer_proxies
from .state import export_state
from .verification.compare_file import Verification
from .verification.cut_graphs import input_shape, load_tagged
from .verification.reference import Reference
from .verification.verify_report import VerifyReport


def verify_export(model: Module, path: str | os.PathLike[str], batch: Tensor) -> VerifyReport:
    """Run an exported file beside its PyTorch model and compare every quantizer's integers.

    Each quantizer's QONNX node must declare its integer type. Each weight quantizer must give
    PyTorch's integers and scale. Each activation quantizer alone,
    fed PyTorch's own pre-activations, and inputs at and beside each of its thresholds, must give
    PyTorch's result. Each layer, fed PyTorch's own results of the quantizers before it, must give
    PyTorch's integers; where it does not, the difference is *excused* only if both integers, and
    the file's own pre-activation, lie within the float32 rounding bound of the pre-activation,
    recomputed in float64 from the model and not from the file. A pre-activation beyond twice the
    bound is a difference even where the integer is the same: on other inputs it would not be.
    Finally the file is run as it is, at every optimization level of ONNX Runtime (QCDQ) or by the
    QONNX executor: in each image the first quantizer that differs may do so only in units with such
    an excuse, and where none differs the outputs must lie within their bound.

    The output's name, type, shape and every value are always compared, whatever gives them in the
    file. Behind an operator without a bound (a softmax) outputs may differ by 1e-5 of each value
    and 1e-6 of the size of what such an operator gives.

    Args:
        model: the exported model, any training mode; it is run in evaluation mode and restored.
        path: a file written by ``export_qonnx`` or ``export_qcdq``.
        batch: float32 tensor (N, …), N a multiple of the file's batch size.

    Returns:
        The report; ``report.ok`` if nothing differs without excuse.

    Raises:
        TypeError, ValueError: for a model or batch that cannot be compared.
        FileNotFoundError: if there is no file.
        VerificationError: if the file is damaged, belongs to another architecture, or a
            pre-activation is not finite (names the layer).

    >>> import tempfile, brevitas.nn as qnn
    >>> from brevitas_ftprop.export import export_qcdq
    >>> model = torch.nn.Sequential(qnn.QuantIdentity(), qnn.QuantLinear(4, 2, bias=False)).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export_qcdq(model, torch.zeros(1, 4), f"{folder}/model.onnx", dynamo=False)
    ...     verify_export(model, path, torch.randn(8, 4)).ok
    True
    """
    return verified(model, path, batch)


def verified(
    model: Module,
    path: str | os.PathLike[str],
    batch: Tensor,
    reference: Reference | None = None,
) -> VerifyReport:
    """``verify_export``, with a reference of the model where there is one already."""
    check_model(model)
    check_batch(batch, name="batch")
    batch = batch.detach()
    path = Path(path)
    graph, sites = load_tagged(path)
    _check_shape(batch, input_shape(graph), path)
    proxies = {n: p for n, p in quantizer_proxies(model).items() if kind_of(p) is not None}
    with export_state(model), torch.autocast("cpu", enabled=False):
        model.eval()
        return Verification(model, proxies, graph, sites, path, reference).run(batch)


def _check_shape(batch: Tensor, shape: tuple[int, ...], path: Path) -> None:
    if batch.shape[1:] != torch.Size(shape[1:]) or batch.shape[0] % max(shape[0], 1):
        wanted = ", ".join(map(str, shape[1:]))
        raise ValueError(
            f"the batch has shape {tuple(batch.shape)}, but {path} takes (N, {wanted}) "
            f"with N a multiple of {shape[0]}"
        )
