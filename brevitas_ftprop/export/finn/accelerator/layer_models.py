"""Which of our C++ layers stands for a layer that FINN writes in HLS, and with what numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qonnx.core.datatype import BaseDataType
from qonnx.core.modelwrapper import ModelWrapper

from ..rtl.design import Port, attribute
from ..rtl.streams import element_of

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp

# Values are doubles in C++, which hold integers of so many bits exactly.
WIDEST = 53
OPERATIONS = {"Add": 0, "Sub": 1, "Mul": 2, "Max": 3}


@dataclass(frozen=True)
class LayerModel:
    """What a C++ layer is made with.

    Attributes:
        kind: its name in ``cpp/accelerator.cpp``.
        numbers, arrays: as its constructor documents them.
    """

    kind: str
    numbers: tuple[int, ...] = ()
    arrays: tuple[NDArray[np.float64], ...] = ()


Maker = Callable[["HWCustomOp", ModelWrapper], "LayerModel | str"]


def layer_model(op: HWCustomOp, model: ModelWrapper) -> LayerModel | str:
    """The C++ layer that stands for a node, or why there is none.

    Args:
        op: of the partition.
        model: the partition, which has its constants.
    """
    kind = op.onnx_node.op_type.removesuffix("_hls").removesuffix("_rtl")
    make = MAKERS.get(kind)
    if make is None:
        return f"there is no model of {op.onnx_node.op_type}"
    for datatype in _datatypes(op, model):
        if element_of(datatype) is None or (datatype.is_integer() and datatype.bitwidth() > WIDEST):
            return f"streams of {datatype.name} values are not supported"
    return make(op, model)


def stream_inputs(op: HWCustomOp, model: ModelWrapper) -> list[int]:
    """Which inputs of a node are streams and no constants."""
    names = list(op.onnx_node.input)
    return [i for i, name in enumerate(names) if model.get_initializer(name) is None]


def ports(op: HWCustomOp, model: ModelWrapper) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The streams of a node that a C++ layer stands for, in FINN's widths and order."""
    sources = tuple(
        _port(op.get_input_datatype(i), op.get_folded_input_shape(i))
        for i in stream_inputs(op, model)
    )
    sinks = tuple(
        _port(op.get_output_datatype(i), op.get_folded_output_shape(i))
        for i in range(len(op.onnx_node.output))
    )
    if op.onnx_node.op_type.startswith(("Pool", "VVAU")) and not _takes_pixels(op):
        sources = (_window_port(op, sources[0]),)
    return sources, sinks


def _port(datatype: BaseDataType, shape: Iterable[int]) -> Port:
    element = element_of(datatype)
    assert element is not None
    return Port(element, tuple(int(size) for size in shape))


def _window_port(op: HWCustomOp, port: Port) -> Port:
    """Of a layer that takes each group of PE channels' window together."""
    window, pe = prod(attribute(op, "KernelSize") or attribute(op, "Kernel")), attribute(op, "PE")
    *pixels, _, _ = port.shape
    before = len(pixels)
    shape = (*pixels, window, attribute(op, "Channels") // pe, pe)
    return Port(port.element, shape, (*range(before), before + 1, before, before + 2))


def _takes_pixels(op: HWCustomOp) -> bool:
    """Whether a vector-vector unit takes several pixels of all channels together."""
    return (attribute(op, "SIMD") or 1) > 1


def _datatypes(op: HWCustomOp, model: ModelWrapper) -> list[BaseDataType]:
    outputs = range(len(op.onnx_node.output))
    return [
        *(op.get_input_datatype(i) for i in stream_inputs(op, model)),
        *(op.get_output_datatype(i) for i in outputs),
    ]


def _pool(op: HWCustomOp, model: ModelWrapper) -> LayerModel | str:
    function, window = attribute(op, "Function"), prod(attribute(op, "KernelSize"))
    shift = 0
    if function == "QuantAvgPool":
        largest = (2 ** op.get_input_datatype().bitwidth() - 1) * window
        shift = max(0, largest.bit_length() - op.get_output_datatype().bitwidth())
    elif function not in ("MaxPool", "AccPool"):
        return f"pools of the function {function} are not supported"
    return LayerModel("pool", (window, int(function == "MaxPool"), shift))


def _global_acc_pool(op: HWCustomOp, model: ModelWrapper) -> LayerModel:
    *_, folds, _ = op.get_folded_input_shape()
    image = prod(op.get_folded_input_shape()[:-1])
    return LayerModel("global_acc_pool", (image, folds))


def _label_select(op: HWCustomOp, model: ModelWrapper) -> LayerModel:
    image = attribute(op, "Labels") // attribute(op, "PE")
    return LayerModel("label_select", (image, attribute(op, "K")))


def _elementwise(op: HWCustomOp, model: ModelWrapper) -> LayerModel | str:
    name = op.onnx_node.op_type.removeprefix("Elementwise").removesuffix("_hls")
    streams, shape = stream_inputs(op, model), op.get_normal_output_shape()
    for i in streams:
        if list(op.get_normal_input_shape(i)) != list(shape):
            return "streams that are used more than once (broadcast) are not supported"
    if len(streams) == 2:
        return LayerModel("elementwise", (OPERATIONS[name], -1))
    (stream,) = streams
    constant = model.get_initializer(op.onnx_node.input[1 - stream])
    values = np.broadcast_to(np.asarray(constant, np.float64), tuple(shape))
    return LayerModel("elementwise", (OPERATIONS[name], 1 - stream), (values,))


def _matrix_vector(op: HWCustomOp, model: ModelWrapper) -> LayerModel | str:
    if attribute(op, "mem_mode") in ("dynamic", "external_mem"):
        return f"weights in mem_mode {attribute(op, 'mem_mode')} are not supported"
    kinds = {op.get_input_datatype(0).name, op.get_input_datatype(1).name}
    counts_equal = bool(attribute(op, "binaryXnorMode")) or kinds == {"BIPOLAR"}
    weights = np.asarray(model.get_initializer(op.onnx_node.input[1]), np.float64).T
    outputs, inputs = weights.shape
    if attribute(op, "noActivation"):
        thresholds, counting = np.zeros(0), (0, 0, 1)
    else:
        thresholds, counting = _thresholds(op, model, 2, outputs)
    numbers = (int(counts_equal), *counting, inputs)
    return LayerModel("matrix_vector", numbers, (weights, thresholds))


def _vector_vector(op: HWCustomOp, model: ModelWrapper) -> LayerModel | str:
    if not attribute(op, "noActivation"):
        return "vector-vector units with thresholds of their own are not supported"
    if _takes_pixels(op) and attribute(op, "PE") < attribute(op, "Channels"):
        return (
            "vector-vector units with SIMD > 1 and PE < channels, which FINN's windows do not feed,"
            " are not supported"
        )
    kinds = {op.get_input_datatype(0).name, op.get_input_datatype(1).name}
    weights = np.asarray(model.get_initializer(op.onnx_node.input[1]), np.float64)
    weights = weights.reshape(len(weights), -1)
    return LayerModel("vector_vector", (int(kinds == {"BIPOLAR"}), weights.shape[1]), (weights,))


def _thresholding(op: HWCustomOp, model: ModelWrapper) -> LayerModel:
    thresholds, counting = _thresholds(op, model, 1, attribute(op, "NumChannels"))
    return LayerModel("thresholding", counting, (thresholds,))


def _thresholds(
    op: HWCustomOp, model: ModelWrapper, index: int, channels: int
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Thresholds (channels, n), and n, what is added to the count of them, and its factor."""
    thresholds = np.asarray(model.get_initializer(op.onnx_node.input[index]), np.float64)
    thresholds = np.broadcast_to(thresholds, (channels, thresholds.shape[1]))
    is_bipolar = op.get_output_datatype().name == "BIPOLAR"
    bias, factor = (-1, 2) if is_bipolar else (attribute(op, "ActVal"), 1)
    return thresholds, (thresholds.shape[1], bias, factor)


def _upsampling(op: HWCustomOp, model: ModelWrapper) -> LayerModel:
    height, width = attribute(op, "HI"), attribute(op, "WI")
    factors = attribute(op, "HO") // height, attribute(op, "WO") // width
    return LayerModel("upsampling", (*factors, width, op.get_folded_input_shape()[-2]))


def _join_channels(op: HWCustomOp, model: ModelWrapper) -> LayerModel | str:
    inputs = range(len(op.onnx_node.input))
    return LayerModel("join_channels", tuple(op.get_folded_input_shape(i)[-2] for i in inputs))


def _split_channels(op: HWCustomOp, model: ModelWrapper) -> LayerModel:
    outputs = range(len(op.onnx_node.output))
    return LayerModel("split_channels", tuple(op.get_folded_output_shape(i)[-2] for i in outputs))


CONVERTER = "StreamingDataWidthConverter"
MAKERS: dict[str, Maker] = {
    "DuplicateStreams": lambda op, model: LayerModel("duplicate_streams"),
    "GlobalAccPool": _global_acc_pool,
    "LabelSelect": _label_select,
    "MVAU": _matrix_vector,
    "Pool": _pool,
    "StreamingConcat": _join_channels,
    "StreamingSplit": _split_channels,
    "Thresholding": _thresholding,
    "UpsampleNearestNeighbour": _upsampling,
    "VVAU": _vector_vector,
    CONVERTER: lambda op, model: LayerModel("width_converter"),
    **{f"Elementwise{name}": _elementwise for name in OPERATIONS},
}
