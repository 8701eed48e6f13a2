"""Keep track of which node of a changing graph is which quantizer of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ..errors import VerificationError
from ..graph_reading import attributes_of, shape_of
from ..tags import CALL, QUANTIZER, READ_BEHIND_POOL

THRESHOLDS = ("MultiThreshold", "Thresholding", "Thresholding_rtl", "Thresholding_hls")
POOLS = ("MaxPool", "MaxPoolNHWC", "Pool", "Pool_hls", "Pool_rtl")


@dataclass(frozen=True)
class TrackedQuantizer:
    """The node that a quantizer has become, and how to read its integers.

    Attributes:
        name: of the quantizer in the PyTorch model.
        call: 0 for its first call in a forward pass, 1 for its second, …
        node: the node's name.
        source: what it reads.
        thresholds: the name of its thresholds.
        tensor: what holds its integers.
        lowest: the integer of the lowest level in this graph.
        span: distance of the integers of the lowest and the highest level.
        channels_last: whether the tensor is (N, H, W, C).
        behind_pool: whether its integers are read behind the pool that follows it.
    """

    name: str
    call: int
    node: str
    source: str
    thresholds: str
    tensor: str
    lowest: int
    span: int
    channels_last: bool
    behind_pool: bool

    @property
    def key(self) -> tuple[str, int]:
        """Its name and the number of its call."""
        return self.name, self.call

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Levels from 0 (the lowest) to 1 (the highest), with channels on axis 1."""
        levels = (values - self.lowest) / self.span
        return np.moveaxis(levels, -1, 1) if self.channels_last else levels

    def values(self, levels: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`levels`."""
        values = np.rint(levels * self.span) + self.lowest
        return np.moveaxis(values, 1, -1) if self.channels_last else values


def apply(model: ModelWrapper, transformations: Iterable[Transformation]) -> ModelWrapper:
    """Apply qonnx transformations one after the other; each keeps the notes on its nodes."""
    for transformation in transformations:
        # A deep copy: what protobuf removes from a message it frees only with the message, and
        # large networks would fill the memory with their former initializers.
        model = keep_notes(model, lambda graph, each=transformation: graph.transform(each))
    return model


def keep_notes(model: ModelWrapper, change: Callable[[ModelWrapper], ModelWrapper]) -> ModelWrapper:
    """Change a graph; the node that gives a vanished noted one's tensor inherits its notes."""
    notes = {node.output[0]: _notes(node) for node in _noted(model)}
    model = change(model)
    left = [_notes(node) for node in _noted(model)]
    for node in model.graph.node:
        inherited = notes.get(node.output[0])
        # A transformation may have given the tensor's name to another one.
        if node.op_type in THRESHOLDS and inherited and inherited not in left:
            for key, value in inherited.items():
                node.metadata_props.add(key=key, value=value)
    return model


def _noted(model: ModelWrapper) -> list[NodeProto]:
    return [n for n in model.graph.node if n.op_type in THRESHOLDS and n.metadata_props]


def _notes(node: NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


def tracked_quantizers(model: ModelWrapper) -> list[TrackedQuantizer]:
    """The quantizers of a graph in graph order."""
    found = []
    for node in model.graph.node:
        notes = _notes(node)
        if node.op_type in THRESHOLDS and QUANTIZER in notes:
            tensor, channels_last = node.output[0], _is_channels_last(node)
            if READ_BEHIND_POOL in notes:
                tensor, channels_last = _behind_pool(model, node)
            lowest, span = _range(model, node)
            found.append(
                TrackedQuantizer(
                    name=notes[QUANTIZER],
                    call=int(notes.get(CALL, 0)),
                    node=node.name,
                    source=node.input[0],
                    thresholds=node.input[1],
                    tensor=tensor,
                    lowest=lowest,
                    span=span,
                    channels_last=channels_last,
                    behind_pool=READ_BEHIND_POOL in notes,
                )
            )
    return found


def _behind_pool(model: ModelWrapper, quantizer: NodeProto) -> tuple[str, bool]:
    node = quantizer
    while node.op_type not in POOLS:
        consumers = model.find_consumers(node.output[0])
        if len(consumers) != 1:
            raise VerificationError(f"no pool is found behind {quantizer.name}")
        node = consumers[0]
    return node.output[0], node.op_type != "MaxPool"


def _range(model: ModelWrapper, node: NodeProto) -> tuple[int, int]:
    attributes = attributes_of(node)
    if node.op_type == "MultiThreshold":
        lowest, step = (int(attributes.get_nodeattr(name)) for name in ("out_bias", "out_scale"))
        return lowest, step * shape_of(model, node.input[1])[1]
    return int(attributes.get_nodeattr("ActVal")), int(attributes.get_nodeattr("numSteps"))


def _is_channels_last(node: NodeProto) -> bool:
    if node.op_type != "MultiThreshold":
        return True
    return attributes_of(node).get_nodeattr("data_layout") == "NHWC"
