"""Write hls4ml projects, compile their C simulation and run it."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

from ..errors import ExportError, MissingToolError
from ..graph_reading import read_constant, shape_of
from ..node_attributes import integers_in, note_of
from ..quiet import silence
from ..tags import CALL, QUANTIZER
from .integer_layers import ENTERS
from .precision import layer_precisions
from .reach import SUMS

# Every type is given; this one would show up as a difference.
DEFAULT = "ufixed<1,1>"
NAME = "model"
# A quantizer's name in PyTorch, and which of its calls.
Site = tuple[str, int]
# The result does not depend on it, and the simulation is compiled in half the time.
QUICK = "-O1"
ONLY_DISJOINT_WINDOWS = re.compile(r" *assert\(CONFIG_T::pool_\w+ == CONFIG_T::stride_\w+[^;]*;\n")


@dataclass(frozen=True)
class Options:
    """What hls4ml is told beside the graph; see ``export_hls4ml``."""

    part: str
    clock_ns: float
    io_type: str
    strategy: str
    reuse_factor: int


def require_tools() -> None:
    """Raise unless hls4ml and g++ are there.

    Raises:
        MissingToolError: says how to install what is missing.
    """
    if importlib.util.find_spec("hls4ml") is None:
        raise MissingToolError("hls4ml is not installed: pip install 'brevitas-ftprop[hls4ml]'")
    if shutil.which("g++") is None:
        raise MissingToolError(
            "g++, which compiles hls4ml's C simulation, is not installed: apt-get install g++"
        )


class Project:
    """An hls4ml project.

    Args:
        graph: as ``MultiThresholdToQuant`` and the channels-last conversion leave it.
        folder: where to write; must not exist.
        options: see there.
        traced: let every layer tell its output; the input gets one bit more than its quantizer,
            so that hls4ml keeps this as a layer of its own.

    Raises:
        ExportError: if hls4ml refuses the graph.
    """

    def __init__(
        self, graph: ModelWrapper, folder: Path, options: Options, *, traced: bool
    ) -> None:
        self.graph, self.folder, self.traced = graph, folder, traced
        config: dict[str, Any] = {
            "Model": {
                "Precision": {"default": DEFAULT},
                "ReuseFactor": options.reuse_factor,
                "Strategy": options.strategy.capitalize(),
            },
            "LayerName": {
                name: {"Precision": precision, "Trace": traced}
                for name, precision in layer_precisions(graph, wider_input=traced).items()
            },
        }
        if options.io_type == "io_parallel":
            for node in graph.graph.node:
                if integers_in(node, "group", [1]) != [1]:
                    # There hls4ml has no other depthwise layers.
                    config["LayerName"][node.name]["Strategy"] = "Latency"
        with self._explaining("convert the model"):
            from hls4ml.converters import (  # pyright: ignore[reportMissingImports]
                convert_from_onnx_model,
            )

            self.model = convert_from_onnx_model(
                graph,
                output_dir=str(folder),
                project_name=NAME,
                backend="Vitis",
                part=options.part,
                clock_period=options.clock_ns,
                io_type=options.io_type,
                hls_config=config,
            )

    def compile(self) -> None:
        """Write the sources and compile the C simulation."""
        with self._explaining("compile the C simulation"):
            self.model.config.trace_output = self.traced
            self._write()
            script = self.folder / "build_lib.sh"
            script.write_text(script.read_text().replace("-O3", QUICK))
            self.model._compile()

    @property
    def takes_integers(self) -> bool:
        """Whether the project takes the integers of the first quantizer, and no image."""
        return note_of(self.graph.graph.node[0], ENTERS) is not None

    def outputs(self, batch: np.ndarray) -> np.ndarray:
        """Outputs of the C simulation, channels last.

        Args:
            batch: float64 array (N, …), channels last.
        """
        with self._explaining("run the C simulation"):
            found = np.asarray(self.model.predict(np.ascontiguousarray(batch)))
        return found.reshape(len(batch), *shape_of(self.graph, self.graph.graph.output[0].name)[1:])

    def traced_calls(
        self, batch: np.ndarray
    ) -> tuple[dict[Site, np.ndarray], dict[Site, np.ndarray]]:
        """Of each call of a quantizer its integers, and the sums that its thresholds read.

        The latter are left out where the graph has a pool behind the quantizer, and for the input.
        All are channels last, of a traced project.
        """
        # hls4ml would write and compile anew what `compile` has compiled.
        self.model.compile = lambda: None
        with self._explaining("trace the C simulation"):
            _, found = self.model.trace(np.ascontiguousarray(batch))
        layers, units = self.quantizer_layers(), self._units()
        integers = {site: found[layer] / units[site] for site, layer in layers.items()}
        sums = {site: found[each] for site, each in self.sum_layers().items() if each in found}
        return integers, sums

    def quantizer_layers(self) -> dict[Site, str]:
        """hls4ml's layer that gives the integers of each call of a quantizer.

        Raises:
            ExportError: if there is none, as in a project that is not traced.
        """
        return {site: self._layer_of(node) for site, node in self._quantizers().items()}

    def sum_layers(self) -> dict[Site, str]:
        """hls4ml's layer that gives what each call of a quantizer compares with its thresholds."""
        given = {name: each.name for each in self.model.get_layers() for name in each.outputs}
        found = {}
        for site, quantizer in self._quantizers().items():
            tensor = self._sums_of(quantizer)
            producer = None if tensor is None else self.graph.find_producer(tensor)
            if producer is not None and producer.op_type == "Quant":
                found[site] = self._layer_of(producer)
            elif tensor in given:
                found[site] = given[tensor]
        return found

    def _sums_of(self, quantizer: NodeProto) -> str | None:
        """The tensor before a quantizer's affine functions and types."""
        node: NodeProto | None = quantizer
        while node is not None and node.op_type in ("BatchNormalization", "Quant"):
            if note_of(node, SUMS) is not None:
                return node.input[0]
            node = self.graph.find_producer(node.input[0])
        return None

    def _layer_of(self, node: NodeProto) -> str:
        present, before = {layer.name for layer in self.model.get_layers()}, node
        while before is not None:
            for variant in (f"{before.name}_act", f"bn_{before.name}", before.name):
                if variant in present:
                    return variant
            # Its type has become that of the layer before, or it does nothing and is left out.
            before = self.graph.find_producer(before.input[0])
        raise ExportError(f"hls4ml has no layer that gives the integers of {node.name}")

    def _units(self) -> dict[Site, float]:
        """What one integer of each quantizer is in the project: its scale for the input's, or 1."""
        scales = {
            site: float(read_constant(self.graph, node.input[1]))
            for site, node in self._quantizers().items()
            if node.op_type == "Quant"
        }
        return {site: scales.get(site, 1.0) for site in self._quantizers()}

    def _quantizers(self) -> dict[Site, NodeProto]:
        """The nodes that give the quantizers' results."""
        named = ((note_of(node, QUANTIZER), node) for node in self.graph.graph.node)
        return {
            (name, int(note_of(node, CALL) or 0)): node for name, node in named if name is not None
        }

    def clean(self, folder: Path) -> None:
        """Remove what was compiled, and let the project say that it lies in ``folder``."""
        self._write()
        for library in (self.folder / "firmware").glob("*.so"):
            library.unlink()
        config = self.folder / "hls4ml_config.yml"
        config.write_text(config.read_text().replace(str(self.folder), str(folder)))

    def _write(self) -> None:
        self.model.write()
        # Its counters handle other strides than the window, before which it stops the process.
        pools = self.folder / "firmware" / "nnet_utils" / "nnet_pooling_stream.h"
        pools.write_text(re.sub(ONLY_DISJOINT_WINDOWS, "", pools.read_text()))

    @contextmanager
    def _explaining(self, what: str) -> Iterator[None]:
        try:
            with silence():
                yield
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "")
            raise ExportError(
                f"hls4ml could not {what}: {type(error).__name__}: {reason}"
            ) from error

    def types(self) -> dict[str, str]:
        """hls4ml's type of each layer's result."""
        return {
            layer.name: str(layer.get_output_variable().type.precision)
            for layer in self.model.get_layers()
        }
