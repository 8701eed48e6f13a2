"""What enters an accelerator: integers instead of floats, channels last instead of first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core import data_layout
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...entry_levels import RESHAPES, entry_path
from ...graph_edits import add_constant, add_tensor, replace, rewired
from ...graph_reading import attributes_of, read_constant, shape_of
from ...node_attributes import integers_in

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class IntegerInput(Transformation):
    """Let a graph take integers, such as uint8 pixels, instead of what the model sees of them.

    Where a ``MultiThreshold`` is the first layer, all that the image passes before it (see
    ``entry_path``) becomes part of its thresholds, which are given. Elsewhere the first layer reads
    the integers, and what the model sees them multiplied with follows as a ``Mul``. A flattening in
    front goes: the graph's input is flat.

    Args:
        datatype: FINN's name of the integers.
        thresholds: of the first quantizer on them, (channels or 1, steps), or (features, steps)
            where PyTorch flattens first; None without one.
        factor: what the model sees them multiplied with.

    Raises:
        ValueError: if the graph does not start in one of these ways.
    """

    def __init__(self, datatype: str, thresholds: np.ndarray | None, factor: float | None) -> None:
        super().__init__()
        self.datatype, self.thresholds, self.factor = datatype, thresholds, factor

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        path = entry_path(model)
        first = path[-1] if path else None
        entry = model.graph.input[0].name
        if self.thresholds is not None and first is not None and first.op_type == "MultiThreshold":
            _drop(model, [node for node in path[:-1] if node.op_type != "MaxPool"])
            known, thresholds = read_constant(model, first.input[1]), self.thresholds
            channels = shape_of(model, first.input[0])[1]
            if len(thresholds) not in (1, channels):
                # What moves in front of a flattening does not tell a channel's positions apart.
                thresholds = thresholds.reshape(channels, -1, thresholds.shape[1])[:, 0]
            # A sign of two bits has its one threshold twice.
            again = known.shape[1] // thresholds.shape[1]
            model.set_initializer(first.input[1], thresholds.repeat(again, axis=1))
        elif self.thresholds is None and first is not None and self.factor is not None:
            _drop(model, [node for node in path[:-1] if node.op_type in RESHAPES])
            if self.factor != 1:
                seen = add_tensor(model, shape_of(model, entry))
                (reader,) = model.find_consumers(entry)
                reader.input[list(reader.input).index(entry)] = seen
                factor = add_constant(model, np.float32(self.factor))
                model.graph.node.insert(0, onnx.helper.make_node("Mul", [entry, factor], [seen]))
        else:
            raise ValueError(
                f"{self.datatype} integers need one quantizer of 8 bits or fewer to be the first "
                "layer, or one layer that reads them times a factor"
            )
        model.set_tensor_datatype(entry, DataType[self.datatype])
        return model, False


def _drop(model: ModelWrapper, nodes: Sequence[NodeProto]) -> None:
    """Remove nodes of one input; the graph's input takes the shape of what it then stands for."""
    entry = model.graph.input[0].name
    kind = model.get_tensor_datatype(entry)
    for node in nodes:
        name = next(n for n in node.input if n and model.get_initializer(n) is None)
        result = node.output[0]
        if name == entry:
            model.set_tensor_shape(entry, shape_of(model, result))
            model.set_tensor_datatype(entry, kind)
        for reader in model.find_consumers(result):
            reader.input[list(reader.input).index(result)] = name
        model.graph.node.remove(node)


class ChannelsLastInput(Transformation):
    """Put the ``Transpose`` to channels last at the very front of a graph, or leave it out.

    The graph starts with a ``MultiThreshold`` on (N, C, H, W) whose result is transposed where it
    is read, and the two change places; or with the ``Transpose``. What else reads the result, such
    as a flattening, gets it transposed back.

    Args:
        transposed: whether the graph's input stays (N, C, H, W) and its first node is the
            ``Transpose``; otherwise the input becomes (N, H, W, C).
    """

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.transposed = transposed

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        entry = model.graph.input[0].name
        first = model.find_consumers(entry)
        if len(first) != 1:
            return model, False
        (quantizer,) = first
        if not self.transposed and integers_in(quantizer, "perm", ()) == TO_CHANNELS_LAST:
            _drop(model, [quantizer])
            return model, False
        if quantizer.op_type != "MultiThreshold":
            return model, False
        readers = model.find_consumers(quantizer.output[0])
        behind = [n for n in readers if integers_in(n, "perm", ()) == TO_CHANNELS_LAST]
        if not behind:
            return model, False
        transpose, *others = behind
        for other in others:
            for reader in model.find_consumers(other.output[0]):
                _reread(reader, other.output[0], transpose.output[0])
        last = shape_of(model, transpose.output[0])
        kind, new = model.get_tensor_datatype(entry), []
        images = add_tensor(model, last) if self.transposed else entry
        if self.transposed:
            new.append(rewired(transpose, entry, images))
        new.append(rewired(quantizer, images, transpose.output[0]))
        attributes_of(new[-1]).set_nodeattr("data_layout", "NHWC")
        for reader in readers:
            if reader not in behind:
                back = add_tensor(model, shape_of(model, quantizer.output[0]))
                model.set_tensor_datatype(back, model.get_tensor_datatype(quantizer.output[0]))
                new.append(
                    onnx.helper.make_node(
                        "Transpose", [transpose.output[0]], [back], perm=TO_CHANNELS_FIRST
                    )
                )
                _reread(reader, quantizer.output[0], back)
        replace(model, [quantizer, *behind], new)
        if not self.transposed:
            model.set_tensor_shape(entry, last)
            model.set_tensor_datatype(entry, kind)
        model.set_tensor_layout(images, data_layout.NHWC)
        return model, False


def _reread(reader: NodeProto, old: str, new: str) -> None:
    reader.input[:] = [new if name == old else name for name in reader.input]
