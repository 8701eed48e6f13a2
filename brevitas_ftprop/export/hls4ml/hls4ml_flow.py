"""Export to hls4ml: an HLS project whose C simulation is compared with PyTorch."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor
from torch.nn import Module

from ...levels import level_function
from ..accelerator_io import AcceleratorIO
from ..checks import check_batch, check_finite, check_model
from ..deployable.check import require_deployable
from ..output_folder import check_folder, output_folder
from ..quantizers import quantizer_proxies
from ..state import export_state
from ..verification.capture import capture
from .compare_simulation import compare, threshold_images
from .hardware_graph import hardware_graph
from .hls4ml_report import Hls4mlReport
from .node_forms import SIGNALS
from .project import Options, Project, require_tools

RANDOM_IMAGES = 16
THRESHOLD_IMAGES = 8
OUTSIDE = 10.0
IO_TYPES = ("io_stream", "io_parallel")
STRATEGIES = ("latency", "resource")
GRAPH = "model.onnx"
REPORT = "report.json"


def export_hls4ml(
    model: Module,
    example_input: Tensor,
    out_dir: str | os.PathLike[str],
    *,
    batch: Tensor | None = None,
    part: str = "xcu250-figd2104-2L-e",
    clock_ns: float = 5.0,
    io_type: Literal["io_stream", "io_parallel"] = "io_stream",
    strategy: Literal["latency", "resource"] = "latency",
    reuse_factor: int = 1,
    dynamo: bool = False,
    untrained: bool = False,
    overwrite: bool = False,
) -> Hls4mlReport:
    """Write an hls4ml project that computes a Brevitas model's integers, and prove it.

    The model is exported to QONNX; scales, batch norms and quantizers become integer thresholds
    (``IntegerSums``) and then affine functions and saturating types (``MultiThresholdToQuant``);
    every type in the project follows from the values that can occur. hls4ml's C simulation is
    compiled with g++ and run on random images, images at the thresholds of the input's quantizer,
    and ``batch``; each activation quantizer's integers and the outputs are compared with PyTorch's.
    The project takes images channels last, (H, W, C), in the type of the input's quantizer, and
    gives maps so; signals (N, C, L) are images of height 1, (1, L, C). Where that quantizer is no
    fixed-point type (its scale is no power of two, or a normalization stands before it) the project
    takes its integers, which software has to compute; the report says so.

    What can be exported are 1-D and 2-D convolutions, of one group or depthwise, and fully
    connected layers with quantized weights, each with batch norm, pooling and a quantizer behind
    it, averages of integers, truncated ones too, and sums and concatenations of branches of
    integers: the models in hardware form, and what ``quantize_for_finn`` gives. The model is left
    as it was; the folder appears when it is complete, and a run that fails leaves its files in
    ``<out_dir>.unfinished``.

    Args:
        model: float32 model on the CPU with Brevitas layers.
        example_input: float32 tensor (N, …), as the model takes it.
        out_dir: folder of the project, with the graph (``model.onnx``) and ``report.json``.
        batch: float32 tensor (M, …), images to compare on beside the others.
        part: FPGA, as Vitis names it.
        clock_ns: clock period.
        io_type: how layers hand on their data.
        strategy: how hls4ml implements sums.
        reuse_factor: how often a multiplier is used for one sum.
        dynamo: export with torch.export; False uses TorchScript.
        untrained: say in the report that nobody has trained the weights.
        overwrite: replace the folder of an earlier export.

    Returns:
        The report; ``report.ok`` if nothing differs without excuse.

    Raises:
        TypeError, ValueError: for a model, batch or option that cannot be used.
        OSError: if the folder exists already, or cannot be written.
        ExportError: if hls4ml or g++ is missing, or ``check_deployable`` refuses the model, in
            its words.
        VerificationError: if a pre-activation is not finite; names the layer.

    >>> import brevitas.nn as qnn
    >>> model = torch.nn.Sequential(qnn.QuantLinear(4, 2, bias=False))
    >>> export_hls4ml(model, torch.zeros(1, 4), "project", clock_ns=0)
    Traceback (most recent call last):
    ValueError: clock_ns must be a positive number, not 0

    References:
        Duarte et al., Fast inference of deep neural networks in FPGAs for particle physics,
        arXiv:1804.06913; https://fastmachinelearning.org/hls4ml.
    """
    _check_options(clock_ns, io_type, strategy, reuse_factor)
    check_model(model)
    check_finite(model)
    check_batch(example_input, name="example_input")
    if batch is not None:
        check_batch(batch, name="batch")
        if batch.shape[1:] != example_input.shape[1:]:
            raise ValueError(
                f"the batch has shape {tuple(batch.shape)}, but the model takes "
                f"(N, {', '.join(map(str, example_input.shape[1:]))})"
            )
    target = check_folder(out_dir, overwrite=overwrite)
    require_tools()
    options = Options(part, clock_ns, io_type, strategy, reuse_factor)
    report = Hls4mlReport(target, untrained=untrained)
    with _timed(report, "export"):
        exported = require_deployable(
            model, example_input, "hls4ml", dynamo=dynamo, io=AcceleratorIO()
        )
    with (
        output_folder(target, overwrite=overwrite) as folder,
        tempfile.TemporaryDirectory() as scratch,
    ):
        with _timed(report, "convert"):
            graph = hardware_graph(ModelWrapper(exported))
            traced = Project(graph, Path(scratch) / "traced", options, traced=True)
            project = Project(graph, folder, options, traced=False)
        report.types = project.types()
        with export_state(model):
            model.eval()
            (quantizer, _), *_ = traced.quantizer_layers()
            if project.takes_integers:
                report.takes_integers_of = quantizer
                images = _images(example_input, batch, edges=None)
                entering = _integers(model, quantizer, images)
            else:
                images = entering = _images(example_input, batch, edges=(model, quantizer))
            data = _channels_last(entering)
            with _timed(report, "compile"):
                project.compile()
                traced.compile()
            with _timed(report, "simulate"):
                outputs = _channels_first(project.outputs(data))
                integers, sums = traced.traced_calls(data)
            compare(
                model,
                images,
                {site: _channels_first(found) for site, found in integers.items()},
                {site: _channels_first(found) for site, found in sums.items()},
                outputs,
                report,
            )
        project.clean(target)
        graph.save(str(folder / GRAPH))
        (folder / REPORT).write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def _images(example: Tensor, batch: Tensor | None, *, edges: tuple[Module, str] | None) -> Tensor:
    """What is simulated: random images, images at a quantizer's thresholds, and the given ones.

    Without ``edges`` there are more random ones, some with values far outside.
    """
    shape = tuple(example.shape[1:])
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(RANDOM_IMAGES, *shape, generator=generator)]
    if edges is None:
        images.append(OUTSIDE * torch.randn(THRESHOLD_IMAGES, *shape, generator=generator))
    else:
        images.append(threshold_images(*edges, shape, THRESHOLD_IMAGES))
    return torch.cat([*images, *([] if batch is None else [batch.detach()])])


def _integers(model: Module, quantizer: str, images: Tensor) -> Tensor:
    """What the first quantizer makes of images, its zero-point taken off."""
    proxy = quantizer_proxies(model)[quantizer]
    (call, *_) = capture(model, {quantizer: proxy}, images).calls[quantizer]
    return torch.round(call.result / level_function(proxy).scale)


def _channels_last(images: Tensor) -> np.ndarray:
    maps = images.unsqueeze(2) if images.dim() == SIGNALS else images
    # Double, so that hls4ml hands the values on as they are.
    return np.ascontiguousarray(maps.movedim(1, -1).double().numpy())


def _channels_first(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values)).movedim(-1, 1)


def _check_options(clock_ns: float, io_type: str, strategy: str, reuse_factor: int) -> None:
    if not (isinstance(clock_ns, Real) and 0 < clock_ns < math.inf):
        raise ValueError(f"clock_ns must be a positive number, not {clock_ns!r}")
    if not isinstance(reuse_factor, int) or reuse_factor < 1:
        raise ValueError(f"reuse_factor must be a positive integer, not {reuse_factor!r}")
    for name, value, valid in (("io_type", io_type, IO_TYPES), ("strategy", strategy, STRATEGIES)):
        if value not in valid:
            raise ValueError(f"{name} must be one of {', '.join(valid)}, not {value!r}")


@contextmanager
def _timed(report: Hls4mlReport, step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    report.seconds[step] = time.perf_counter() - start
