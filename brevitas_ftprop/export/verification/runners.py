"""Run graphs the way their users do: ONNX Runtime for QCDQ, QONNX's executor for QONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from torch import Tensor

from ..quiet import silence

UNOPTIMIZED = "disabled"
LEVELS = (UNOPTIMIZED, "basic", "extended", "all")


class OrtRunner:
    """ONNX Runtime on the CPU, one session per graph and optimization level."""

    levels = LEVELS
    # Of input and output, as ``export_qcdq`` gives them.
    names = ("input", "output")

    def __init__(self, model: ModelProto, *, level: str = UNOPTIMIZED) -> None:
        self._session = _session(model, level)
        self._names = [output.name for output in model.graph.output]

    @staticmethod
    def optimized(model: ModelProto, *, level: str) -> ModelProto:
        """The graph that ONNX Runtime makes of a graph at an optimization level."""
        if level == UNOPTIMIZED:
            return model
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "optimized.onnx"
            _session(model, level, save_to=file)
            return onnx.load(file)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, for float32 inputs by name."""
        arrays = {name: value.numpy() for name, value in inputs.items()}
        results = self._session.run(self._names, arrays)
        return {
            name: torch.from_numpy(np.array(result))
            for name, result in zip(self._names, results, strict=True)
        }


def _session(model: ModelProto, level: str, *, save_to: Path | None = None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    # Idle workers would otherwise spin, at the expense of PyTorch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = {
        UNOPTIMIZED: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }[level]
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class QonnxRunner:
    """QONNX's node-by-node executor."""

    levels = (UNOPTIMIZED,)
    # As QONNX's cleanup in ``export_qonnx`` gives them.
    names = ("global_in", "global_out")

    def __init__(self, model: ModelProto, *, level: str = UNOPTIMIZED) -> None:
        self._names = [output.name for output in model.graph.output]
        with silence():
            self._model = ModelWrapper(model).transform(InferShapes())

    @staticmethod
    def optimized(model: ModelProto, *, level: str) -> ModelProto:
        """The graph itself: QONNX's executor does not optimize."""
        return model

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, for float32 inputs by name."""
        arrays = {name: value.numpy() for name, value in inputs.items()}
        with silence():
            results = execute_onnx(self._model, arrays)
        return {name: torch.from_numpy(np.array(results[name])) for name in self._names}


def runner_for(model: ModelProto) -> type[OrtRunner] | type[QonnxRunner]:
    """The runner that knows all operators of a graph."""
    custom = any(node.domain not in ("", "ai.onnx") for node in model.graph.node)
    return QonnxRunner if custom else OrtRunner
