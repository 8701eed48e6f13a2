"""One call from a trained model to a folded dataflow partition."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from numbers import Real

from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor
from torch.nn import Module

from ..accelerator_io import checked_io
from ..checks import check_batch, check_finite, check_model
from ..deployable.check import require_deployable
from ..entry_levels import with_thresholds
from ..errors import ExportError, VerificationError
from ..output_folder import check_folder, output_folder
from .compared_images import images_to_compare
from .device import check_device
from .environment import finn_environment
from .finn_report import FinnReport
from .passes import plain


def export_finn(
    model: Module,
    example_input: Tensor,
    out_dir: str | os.PathLike[str],
    *,
    fpga_part: str = "xczu7ev-ffvc1156-2-e",
    target_fps: int = 1000,
    clock_ns: float = 5.0,
    batch: Tensor | None = None,
    images: str = "float",
    pixels: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    result: str = "logits",
    dynamo: bool = True,
    untrained: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> FinnReport:
    """Compile a model to a FINN dataflow partition, every step compared with PyTorch.

    What ``check_deployable`` finds is raised before anything is written. Then follow QONNX export,
    forms that FINN maps exactly, FINN's conversion, streamlining, hardware layers,
    partition, folding, estimates. Behind each step the graph runs beside PyTorch on the batch; all
    quantizers' integers and the outputs are compared as by ``verify_export``, and the first step
    that differs stops the flow.

    The folder holds each step's model (``1_qonnx.onnx`` …), FINN's estimates (``report/``),
    ``build.yaml`` and ``folding.json`` with which FINN's own builder goes on where Vivado is
    installed, ``report.json``, ``report.md`` and a figure of the pipeline, ``dataflow.png``.

    Args:
        model: float32 model on the CPU with Brevitas layers.
        example_input: one image as the model takes it, float32 (1, C, H, W), (1, C, L) or (1, F).
        out_dir: folder to write; it appears when it is complete. A run that fails leaves its files
            in ``<out_dir>.unfinished``.
        fpga_part: for the estimates and the form of the layers.
        target_fps: frames a second to fold the layers for.
        clock_ns: clock period in nanoseconds.
        batch: images to compare on, float32 (N, C, H, W), or the integers that enter; the example
            (the least and the largest integer), zeros and random images by default.
        images: what the accelerator takes: the ``"float"`` images of the model (a Transpose to
            channels last is left to software); ``"uint8"`` pixels, channels last; or integers that
            the model takes as they are, ``"bipolar"`` (-1 and 1) or another datatype of FINN of 8
            bits or fewer, such as ``"int8"``. All that stands between integers and the first
            quantizer, each value by itself, becomes part of its thresholds, the accelerator's first
            layer. Where the first layer has weights, a factor moves behind it.
        pixels: what the model sees of a pixel x: ``"x/255"`` (with a mean and std by default),
            ``"x"`` or ``"x/127.5-1"``; told, or mean and std, for pixels.
        mean, std: of a normalization ``(x/255 - mean)/std`` of that, one number a channel.
        result: ``"logits"``, the ``"integers"`` that they are multiples of (the report has the
            factor), or the ``"class"`` index.
        dynamo: which exporter writes the QONNX file.
        untrained: say in the report that nobody has trained the weights.
        overwrite: replace a folder that an earlier run has written, and nobody has added to.
        progress: show the steps on the terminal.

    Returns:
        The report; also in the folder.

    Raises:
        ImportError: if finn-plus is not installed; says how to install it.
        TypeError, ValueError: for a model, batch or option that cannot be used.
        OSError: if the folder exists already or cannot be written.
        ExportError: for a model that ``check_deployable`` refuses, in its words; if a step fails
            or leaves layers to software; names step and layer.
        VerificationError: if a step computes something else; names step and node.

    References:
        Umuroglu et al., FINN, FPGA 2017, arXiv:1612.07119; finn-plus 1.6.1.
    """
    check_model(model)
    check_finite(model)
    check_batch(example_input, name="example_input")
    check_device(fpga_part, clock_ns)
    if not (isinstance(target_fps, Real) and 0 < target_fps < math.inf):
        raise ValueError(f"target_fps must be a positive number, not {target_fps!r}")
    io = checked_io(images, result, pixels, mean, std, example_input)
    seen, given = images_to_compare(example_input, batch, io)
    target = check_folder(out_dir, overwrite=overwrite)
    report = FinnReport(fpga_part, clock_ns, target_fps, io.described(example_input.shape))
    report.untrained = untrained
    with finn_environment():
        # FINN's builder can be imported in its environment only.
        from .checked_steps import CheckedSteps

        graph = require_deployable(model, example_input, "finn", dynamo=dynamo, io=io)
        io = with_thresholds(io, model, example_input, plain(ModelWrapper(graph)).model)
        with output_folder(target, overwrite=overwrite) as folder:
            try:
                steps = CheckedSteps(model, seen, given, folder, io, report)
                steps.run(graph, target, progress=progress)
                report.status = "complete"
            except (ExportError, VerificationError) as error:
                report.error = str(error)
                raise type(error)(f"{error}; the files so far are in {folder}") from error
            finally:
                (folder / "report.json").write_text(json.dumps(report.as_dict(), indent=2))
                (folder / "report.md").write_text(report.to_markdown())
    return report
