"""A node's RTL as FINN writes it, and the streams that go in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper

from ...errors import VerificationError
from .streams import Element, element_of

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp
    from finn.custom_op.fpgadataflow.rtlbackend import RTLBackend

# Every node gets this name, so that equal nodes have equal RTL and share one build.
TOP = "dut"


@dataclass(frozen=True)
class DeviceTarget:
    """The FPGA part and clock period that FINN writes RTL for."""

    fpga_part: str
    clock_ns: float


@dataclass(frozen=True)
class Port:
    """One stream.

    Attributes:
        element: encoding of a value.
        shape: FINN's folded shape of one image; the last axis holds a transaction's values.
        axes: the order in which the axes of ``shape`` are streamed, the last one last.
    """

    element: Element
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None

    def transactions(self, tensor: NDArray) -> NDArray:
        """A tensor of one image as an array (transactions, values)."""
        tensor = tensor.reshape(self.shape)
        if self.axes is not None:
            tensor = tensor.transpose(self.axes)
        return tensor.reshape(-1, self.shape[-1])


@dataclass(frozen=True)
class Design:
    """RTL of one node, ready to be built.

    Attributes:
        folder: holds the parameter files, which the RTL names relative to it.
        sources: Verilog files in the order in which they are compiled.
        source, sink: the data streams.
        weights: words of one round of the weight stream, uint32 (T, W), or None.
        doubled_clock: whether there is a second clock of twice the frequency.
        runs_ahead: whether the node begins the next image before its first input.
        estimated_cycles: FINN's estimate for one image.
    """

    folder: Path
    sources: tuple[Path, ...]
    source: Port
    sink: Port
    estimated_cycles: int
    weights: NDArray[np.uint32] | None = None
    doubled_clock: bool = False
    runs_ahead: bool = False


@dataclass(frozen=True)
class Adapter:
    """What one operator needs to be simulated.

    Attributes:
        obstacle: why a node, given as FINN's operator, cannot be simulated, or None.
        design: writes a node's RTL; takes operator, partition, an empty folder and the target.
    """

    obstacle: Callable[[HWCustomOp], str | None]
    design: Callable[[HWCustomOp, ModelWrapper, Path, DeviceTarget], Design]


def stream_obstacle(op: HWCustomOp) -> str | None:
    """Why the data streams of a node cannot be driven, or None."""
    for datatype in (op.get_input_datatype(0), op.get_output_datatype()):
        if element_of(datatype) is None:
            return f"streams of {datatype.name} values are not supported"
    if any(attribute(op, name) for name in ("mlo_max_iter", "bodies")):
        return "nodes with several parameter sets are not supported"
    if attribute(op, "dynamic_mode"):
        return "sizes that are set at run time (dynamic_mode) are not supported"
    return None


def stream_design(
    op: HWCustomOp, model: ModelWrapper, folder: Path, target: DeviceTarget
) -> Design:
    """Let FINN write the RTL of a node with one stream in and one out.

    Raises:
        VerificationError: if FINN refuses (names the node).
    """
    name = op.onnx_node.name
    source, sink = element_of(op.get_input_datatype(0)), element_of(op.get_output_datatype())
    assert source is not None
    assert sink is not None
    op.onnx_node.name = TOP
    try:
        op.set_nodeattr("code_gen_dir_ipgen", str(folder))
        backend = cast("RTLBackend", op)
        backend.generate_hdl(model, target.fpga_part, target.clock_ns)
        files = backend.get_rtl_file_list(abspath=True)
    except Exception as error:
        raise VerificationError(f"FINN cannot write the RTL of {name}: {error}") from error
    finally:
        op.onnx_node.name = name
    return Design(
        folder=folder,
        sources=tuple(Path(file) for file in files),
        source=Port(source, tuple(op.get_folded_input_shape())),
        sink=Port(sink, tuple(op.get_folded_output_shape())),
        estimated_cycles=int(op.get_exp_cycles()),
    )


def attribute(op: HWCustomOp, name: str) -> Any:
    """Value of an attribute; None of an operator that has no such one."""
    return op.get_nodeattr(name) if name in op.get_nodeattr_types() else None
