"""One call from a trained model to a folded dataflow partition, checked at every step."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn import Module

from ..accelerator_io import AcceleratorIO, checked_io
from ..checks import check_batch, check_finite, check_model
from ..deployable.check import require_deployable
from ..errors import ExportError, VerificationError
from ..output_folder import check_folder, output_folder
from ..qonnx import export_qonnx
from ..quiet import silence
from ..state import export_state
from ..verify import verify_export
from .compared_images import images_to_compare
from .device import check_device
from .environment import prepare_finn
from .execution import CannotRunError, executable
from .finn_report import FinnReport, StepReport

if TYPE_CHECKING:
    from .oracle import Oracle

__all__ = ["export_finn"]

# Steps in which thresholds still are on PyTorch's pre-activations.
ON_PRE_ACTIVATIONS = ("forms", "finn")
# Steps whose graph takes images channels last.
CHANNELS_LAST = {
    "float": ("partition", "folded"),
    "uint8": ("hardware", "partition", "folded"),
}


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
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    result: str = "logits",
    dynamo: bool = True,
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
        example_input: one image as the model takes it, float32 (1, C, H, W).
        out_dir: folder to write; it appears when it is complete. A run that fails leaves its files
            in ``<out_dir>.unfinished``.
        fpga_part: for the estimates and the form of the layers.
        target_fps: frames a second to fold the layers for.
        clock_ns: clock period in nanoseconds.
        batch: images to compare on, float32 (N, C, H, W), or integers from 0 to 255 with
            ``images="uint8"``; the example, zeros and random images by default.
        images: what the accelerator takes: the ``"float"`` images of the model (a Transpose to
            channels last is left to software), or ``"uint8"`` pixels, channels last, whose
            normalization ``(x/255 - mean)/std`` and 8-bit quantizer become its first layer.
        mean, std: of that normalization, one number a channel; for pixels, and needed there.
        result: ``"logits"``, the ``"integers"`` that they are multiples of (the report has the
            factor), or the ``"class"`` index.
        dynamo: which exporter writes the QONNX file.
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
    io = checked_io(images, result, mean, std, example_input)
    seen, given = images_to_compare(example_input, batch, io)
    target = check_folder(out_dir, overwrite=overwrite)
    prepare_finn()
    require_deployable(model, example_input, "finn", dynamo=dynamo, images=images, result=result)
    from .builder import build_config

    report = FinnReport(fpga_part, clock_ns, target_fps, io.described(example_input))
    with output_folder(target, overwrite=overwrite) as folder:
        config = build_config(folder, fpga_part, target_fps, clock_ns)
        flow = _Flow(model, example_input, seen, given, folder, target, io, config, report)
        try:
            flow.run(dynamo=dynamo, progress=progress)
            report.status = "complete"
        except (ExportError, VerificationError) as error:
            report.error = str(error)
            raise type(error)(f"{error}; the files so far are in {folder}") from error
        finally:
            (folder / "report.json").write_text(report.to_json())
            (folder / "report.md").write_text(report.to_markdown())
    return report


@dataclass
class _Flow:
    model: Module
    example: Tensor
    seen: Tensor
    given: np.ndarray
    folder: Path
    target: Path
    io: AcceleratorIO
    config: Any
    report: FinnReport

    def run(self, *, dynamo: bool, progress: bool) -> None:
        from qonnx.core.modelwrapper import ModelWrapper

        from .builder import describe_layers, write_build_files
        from .figure import draw_dataflow
        from .flow_steps import STEPS
        from .oracle import Oracle

        with _progress(len(STEPS) + 1, show=progress) as begin:
            begin("qonnx")
            started = time.perf_counter()
            path = self.folder / "1_qonnx.onnx"
            export_qonnx(self.model, self.example, path, dynamo=dynamo)
            with export_state(self.model):
                oracle = Oracle(self.model.eval(), self.seen)
            graph = ModelWrapper(str(path))
            self._check_file(path, graph, time.perf_counter() - started)
            for number, (name, step) in enumerate(STEPS.items(), start=2):
                begin(name)
                started = time.perf_counter()
                try:
                    with silence():
                        graph = step(graph, self.io, self.config)
                # FINN's transformations fail in any way on graphs that they were not made for.
                except Exception as error:
                    raise ExportError(
                        f"step {name} failed: {type(error).__name__}: {error}"
                    ) from error
                seconds = time.perf_counter() - started
                path = self.folder / f"{number}_{name}.onnx"
                graph.save(str(path))
                self._check(name, path, graph, oracle, seconds)
        describe_layers(self.report, graph, self.folder)
        write_build_files(self.folder, self.target, self.config)
        draw_dataflow(self.report, self.folder / "dataflow.png")

    def _check_file(self, path: Path, graph: Any, seconds: float) -> None:
        from .flow_steps import software_nodes

        step = StepReport("qonnx", path.name, len(graph.graph.node), software_nodes(graph), seconds)
        self.report.steps.append(step)
        found = verify_export(self.model, path, self.seen)
        (output,) = found.outputs
        step.images, step.same_class = output.images, output.same_class
        step.max_difference, step.excused = output.max_difference, found.excused
        step.compared = sum(quantizer.compared for quantizer in found.quantizers)
        step.mismatches, step.first_difference = found.mismatches, found.first_difference
        _raise_if_different(step)

    def _check(self, name: str, path: Path, graph: Any, oracle: Oracle, seconds: float) -> None:
        from .flow_steps import software_nodes
        from .passes import OUTPUT_SCALE

        step = StepReport(name, path.name, len(graph.graph.node), software_nodes(graph), seconds)
        self.report.steps.append(step)
        if name == "hardware":
            _require_hardware(graph, step)
            if step.software_nodes:
                self.report.io["input"] += (
                    "; the Transpose to channels last before the accelerator is left to software"
                )
        scale = graph.get_metadata_prop(OUTPUT_SCALE)
        if scale is not None:
            oracle.output_scale = float(scale)
            self.report.io["output"] = f"integers; times {scale} they are the logits"
        if name in ON_PRE_ACTIVATIONS:
            oracle.compare_thresholds(step, graph)
        self._compare(step, graph, oracle)
        _raise_if_different(step)

    def _compare(self, step: StepReport, graph: Any, oracle: Oracle) -> None:
        graph = executable(graph)
        images = self.given.astype(np.float32)
        if images.ndim == 4 and step.name in CHANNELS_LAST[self.io.images]:
            channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            # A network that flattens its images first takes them as they are.
            if graph.get_tensor_shape(graph.graph.input[0].name) == [1, *channels_last.shape[1:]]:
                images = channels_last
        for index, image in enumerate(np.split(images, len(images))):
            try:
                oracle.compare(step, index, graph, image)
            except CannotRunError as error:
                raise ExportError(
                    f"the graph of step {step.name} cannot be run: {error}"
                ) from error


def _raise_if_different(step: StepReport) -> None:
    if not step.ok:
        raise VerificationError(
            f"step {step.name} computes something else than PyTorch, first at "
            f"{step.first_difference}: {step.mismatches} integers and {step.wrong_outputs} "
            "outputs differ"
        )


def _require_hardware(graph: Any, step: StepReport) -> None:
    allowed = {n.name for n in graph.graph.node if n.op_type == "Transpose"}
    first = graph.graph.node[0].name
    left = [name for name in step.software_nodes if name != first or name not in allowed]
    if left:
        kinds = {node.name: node.op_type for node in graph.graph.node}
        raise ExportError(
            f"FINN has no hardware layer for {', '.join(f'{n} ({kinds[n]})' for n in left)}: "
            "check_deployable tells what to change"
        )


@contextmanager
def _progress(total: int, *, show: bool) -> Iterator[Any]:
    """A function that names the step that begins, on a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    # Refreshed by hand: FINN's steps run with the terminal silenced.
    with Progress(console=Console(stderr=True), auto_refresh=False, disable=not show) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def begin(name: str) -> None:
            nonlocal begun
            bar.update(task, description=name, completed=begun, refresh=True)
            begun += 1

        yield begin
        bar.update(task, description="done", completed=total, refresh=True)
