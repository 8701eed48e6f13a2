"""Tell before an export what will not map, and what to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from ..accelerator_io import AcceleratorIO, checked_io
from ..checks import check_batch, check_model
from ..cleaning import check_graph, clean_graph
from ..errors import ExportError
from ..state import export_state
from .finding import ERROR, DeployReport, Finding
from .finn_requirements import FINN_REQUIREMENTS
from .graph_view import GraphView, trace_view
from .hls4ml_requirements import HLS4ML_REQUIREMENTS
from .qcdq_requirements import QCDQ_REQUIREMENTS
from .requirement import Requirements
from .untraced import untraced_findings

REQUIREMENTS: dict[str, Requirements] = {
    "finn": FINN_REQUIREMENTS,
    "hls4ml": HLS4ML_REQUIREMENTS,
    "qcdq": QCDQ_REQUIREMENTS,
}


def check_deployable(
    model: Module,
    example_input: Tensor,
    target: str = "finn",
    *,
    images: str = "float",
    pixels: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    result: str = "logits",
    dynamo: bool = True,
) -> DeployReport:
    """Tell which layers of a model will not map to a target, why, and what to change.

    The model is traced once, as the export does, and the graph and the PyTorch quantizers are
    inspected; neither is changed, and neither FINN nor hls4ml is needed. No errors means that the
    export with the same options succeeds, and for ``"finn"`` that it ends in a verified partition;
    each error means that it would fail.

    Args:
        model: float32 model on the CPU with Brevitas layers, any training mode.
        example_input: float32 (N, …) as the model takes it; N is 1 for ``"finn"``.
        target: ``"finn"``, ``"hls4ml"`` or ``"qcdq"``.
        images: ``"float"``, ``"uint8"`` or a datatype of FINN, as ``export_finn`` will be told.
        pixels, mean, std: likewise; x/255 if nothing is told of uint8 pixels.
        result: ``"logits"``, ``"integers"`` or ``"class"``, likewise.
        dynamo: which exporter traces the model; the one that the export will use.

    Returns:
        The findings, errors first; ``report.ok`` if there are no errors.

    Raises:
        TypeError, ValueError: for a model, input or target that cannot be checked.
        ExportError: if an earlier export left the model, or Brevitas, in export mode.

    >>> import torch, brevitas.nn as qnn
    >>> layer = qnn.QuantLinear(4, 2, bias=False)
    >>> report = check_deployable(layer, torch.zeros(1, 4), dynamo=False)
    >>> [(finding.requirement, finding.message) for finding in report]
    [('unquantized-input', 'its input is the unquantized image')]

    References:
        Umuroglu et al., FINN, FPGA 2017, arXiv:1612.07119 (what a dataflow layer is).
    """
    if target not in REQUIREMENTS:
        raise ValueError(f"target must be one of {', '.join(REQUIREMENTS)}, not {target!r}")
    check_model(model)
    check_batch(example_input, name="example_input")
    io = checked_io(images, result, pixels, mean, std, example_input, is_guessed=True)
    return _checked(model, example_input, target, dynamo=dynamo, io=io)[0]


def require_deployable(
    model: Module,
    example_input: Tensor,
    target: str,
    *,
    dynamo: bool,
    io: AcceleratorIO,
) -> ModelProto:
    """The graph that the export to a target writes, unless ``check_deployable`` finds errors.

    Raises:
        ExportError: the first error, and how many others there are.
    """
    report, graph = _checked(model, example_input, target, dynamo=dynamo, io=io)
    if graph is None:
        first, others = report.errors[0], len(report.errors) - 1
        more = f" (and {others} more: check_deployable lists them)" if others else ""
        raise ExportError(f"{first.layer}: {first.message}. {first.why} Fix: {first.fix}{more}")
    # Without the layers' names, which only findings need.
    return clean_graph(graph)


def _checked(
    model: Module, example: Tensor, target: str, *, dynamo: bool, io: AcceleratorIO
) -> tuple[DeployReport, ModelProto | None]:
    """The report, and the graph if there are no errors."""
    graph = None
    findings = list(untraced_findings(model, example, target))
    if not any(finding.severity == ERROR for finding in findings):
        try:
            view = trace_view(model, example, target, dynamo=dynamo, io=io)
            findings += findings_in(view, target)
            if not any(finding.severity == ERROR for finding in findings):
                check_graph(view.exported)
                graph = view.exported
        except ExportError as error:
            findings.append(_untraceable(error))
    findings.sort(key=lambda finding: finding.severity != ERROR)
    return DeployReport(target, tuple(findings)), graph


def findings_in(view: GraphView, target: str) -> Iterator[Finding]:
    """The findings of a target's requirements on a traced model."""
    with export_state(view.model):
        view.model.eval()
        is_broken = False
        for requirement in REQUIREMENTS[target].values():
            if requirement.alone and is_broken:
                continue
            for finding in requirement.findings(view):
                is_broken = True
                yield finding


def _untraceable(error: ExportError) -> Finding:
    fix = "change what the message names; forward has to be a fixed sequence of tensor operations"
    return Finding(
        ERROR,
        "model",
        "traceable",
        str(error),
        "Loud: the exporter stops there.",
        f"export with {error.remedy}" if error.remedy else fix,
    )
