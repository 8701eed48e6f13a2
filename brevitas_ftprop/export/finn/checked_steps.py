"""The steps one after the other, and behind each its graph beside PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor
from torch.nn import Module

from ..accelerator_io import AcceleratorIO
from ..errors import ExportError, VerificationError
from ..graph_reading import shape_of
from ..onnx_file import write_model
from ..quiet import silence
from ..state import export_state
from ..verify import verified
from .builder import build_config, describe_layers, write_build_files
from .execution import CannotRunError, executable
from .figure import draw_dataflow
from .finn_report import FinnReport, StepReport
from .flow_steps import STEPS, software_nodes
from .oracle import Oracle
from .passes import OUTPUT_SCALE
from .progress_bar import progress_bar

# Steps in which thresholds still are on PyTorch's pre-activations.
ON_PRE_ACTIVATIONS = ("forms", "finn")
# Steps whose graph takes floats, or integers, channels last.
FLOATS_LAST, INTEGERS_LAST = ("partition", "folded"), ("hardware", "partition", "folded")


@dataclass
class CheckedSteps:
    """The way of one model from its QONNX graph to a folded partition.

    Attributes:
        model: in PyTorch.
        seen: the images that it is compared on, as it takes them, (N, …).
        given: the same as the accelerator takes them, channels first.
        folder: where each step's graph is written.
        io: what enters and leaves the accelerator.
        report: is filled step by step.
    """

    model: Module
    seen: Tensor
    given: np.ndarray
    folder: Path
    io: AcceleratorIO
    report: FinnReport

    def run(self, traced: ModelProto, final: Path, *, progress: bool) -> None:
        """Take every step, and write the files to go on with.

        Args:
            traced: the model's clean QONNX graph.
            final: what the folder will be called.
            progress: show the steps on the terminal.

        Raises:
            ExportError: if a step fails or leaves layers to software; names step and layer.
            VerificationError: if a step computes something else; names step and node.
        """
        config = build_config(self.folder, self.report)
        with _progress(len(STEPS) + 1, show=progress) as begin:
            begin("qonnx")
            started = time.perf_counter()
            path = self.folder / "1_qonnx.onnx"
            write_model(traced, path, overwrite=False)
            with export_state(self.model):
                oracle = Oracle(self.model.eval(), self.seen)
            graph = ModelWrapper(str(path))
            self._check_file(path, graph, oracle, time.perf_counter() - started)
            for number, (name, step) in enumerate(STEPS.items(), start=2):
                begin(name)
                started = time.perf_counter()
                try:
                    with silence():
                        graph = step(graph, self.io, config)
                # FINN's transformations fail in any way on graphs that they were not made for.
                except Exception as error:
                    raise ExportError(
                        f"step {name} failed: {type(error).__name__}: {error}"
                    ) from error
                seconds = time.perf_counter() - started
                path = self.folder / f"{number}_{name}.onnx"
                graph.save(str(path))
                self._check(name, path, graph, oracle, seconds)
        with export_state(self.model):
            describe_layers(self.report, graph, self.model.eval(), self.folder)
        write_build_files(self.folder, final, config)
        draw_dataflow(self.report, self.folder / "dataflow.png")

    def _begin(self, name: str, path: Path, graph: ModelWrapper, seconds: float) -> StepReport:
        step = StepReport(name, path.name, len(graph.graph.node), software_nodes(graph), seconds)
        self.report.steps.append(step)
        return step

    def _check_file(self, path: Path, graph: ModelWrapper, oracle: Oracle, seconds: float) -> None:
        step = self._begin("qonnx", path, graph, seconds)
        found = verified(self.model, path, self.seen, oracle.reference)
        (output,) = found.outputs
        step.images, step.same_class = output.images, output.same_class
        step.max_difference, step.excused = output.max_difference, found.excused
        step.compared = sum(quantizer.compared for quantizer in found.quantizers)
        step.mismatches, step.first_difference = found.mismatches, found.first_difference
        _raise_if_different(step)

    def _check(
        self, name: str, path: Path, graph: ModelWrapper, oracle: Oracle, seconds: float
    ) -> None:
        step = self._begin(name, path, graph, seconds)
        if name == "hardware":
            _require_hardware(graph, step)
            self.report.io = self.io.described(shape_of(graph, graph.graph.input[0].name))
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

    def _compare(self, step: StepReport, graph: ModelWrapper, oracle: Oracle) -> None:
        graph = executable(graph)
        images, shape = self.given.astype(np.float32), shape_of(graph, graph.graph.input[0].name)
        if images.ndim == 3 and len(shape) == 4:
            images = images[:, :, None]
        last = INTEGERS_LAST if self.io.takes_integers else FLOATS_LAST
        if images.ndim == 4 and step.name in last:
            channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            # A network that flattens its images first takes them as they are.
            if shape == [1, *channels_last.shape[1:]]:
                images = channels_last
        images = images.reshape(len(images), *shape[1:])
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


def _require_hardware(graph: ModelWrapper, step: StepReport) -> None:
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
def _progress(total: int, *, show: bool) -> Iterator[Callable[[str], None]]:
    """A function that names the step that begins, on a progress bar."""
    with progress_bar(show=show) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def begin(name: str) -> None:
            nonlocal begun
            bar.update(task, description=name, completed=begun, refresh=True)
            begun += 1

        yield begin
        bar.update(task, description="done", completed=total, refresh=True)
