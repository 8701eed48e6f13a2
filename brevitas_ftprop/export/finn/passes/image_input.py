"""What enters a dataflow accelerator: pixels instead of floats, channels last instead of first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qonnx.core import data_layout
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from ...graph_edits import add_tensor, replace, rewired
from ...graph_reading import attributes_of, read_constant, shape_of
from ...node_attributes import integers_in

TO_CHANNELS_LAST = [0, 2, 3, 1]


def normalized(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """What a network sees of uint8 images: ``(x/255 - mean)/std`` in float32, channel by channel.

    Args:
        images: integers from 0 to 255, (N, C, H, W).
        mean, std: one number a channel.

    >>> normalized(np.array([[[[0, 255]]]]), [0.5], [0.25]).tolist()
    [[[[-2.0, 2.0]]]]
    """
    shape = (1, -1, 1, 1)
    offset = np.asarray(mean, np.float32).reshape(shape)
    spread = np.asarray(std, np.float32).reshape(shape)
    return (images.astype(np.float32) / np.float32(255) - offset) / spread


class Uint8Input(Transformation):
    """Let a graph take uint8 pixels; normalization and input quantizer become thresholds on them.

    The graph's first node has to be the input quantizer's ``MultiThreshold`` on (N, C, H, W). Each
    of its thresholds becomes the smallest of the 256 pixel values that reaches it through
    ``normalized``; 256 where none does.

    Args:
        mean, std: of the normalization, one number a channel.

    Raises:
        ValueError: if the graph does not start with a ``MultiThreshold``, or ``mean`` and ``std``
            do not fit its channels.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        entry = model.graph.input[0].name
        consumers = model.find_consumers(entry)
        if len(consumers) != 1 or consumers[0].op_type != "MultiThreshold":
            raise ValueError(
                "uint8 images need a model whose first layer is a quantizer of 8 bits or fewer, "
                "such as the hardware forms have"
            )
        (node,) = consumers
        channels = shape_of(model, entry)[1]
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(
                f"mean and std need one number for each of {channels} channels, not "
                f"{len(self.mean)} and {len(self.std)}"
            )
        pixels = np.arange(256).reshape(1, 1, 256, 1).repeat(channels, axis=1)
        seen = normalized(pixels, self.mean, self.std).reshape(channels, 256, 1)
        thresholds = read_constant(model, node.input[1])
        reached = (seen >= thresholds[:, None, :]).argmax(axis=1)
        never = ~(seen >= thresholds[:, None, :]).any(axis=1)
        if thresholds.shape[0] == 1:
            thresholds = thresholds.repeat(channels, axis=0)
        model.set_initializer(node.input[1], np.where(never, 256, reached).astype(np.float32))
        model.set_tensor_datatype(entry, DataType["UINT8"])
        return model, False


class ChannelsLastInput(Transformation):
    """Put the ``Transpose`` to channels last at the very front of a graph, or leave it out.

    The graph starts with a ``MultiThreshold`` on (N, C, H, W) whose result is transposed; the two
    change places.

    Args:
        transposed: whether the graph's input stays (N, C, H, W) and its first node is the
            ``Transpose``; otherwise the input becomes (N, H, W, C).
    """

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.transposed = transposed

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        entry = model.graph.input[0].name
        quantizers = model.find_consumers(entry)
        if len(quantizers) != 1 or quantizers[0].op_type != "MultiThreshold":
            return model, False
        (quantizer,) = quantizers
        behind = model.find_consumers(quantizer.output[0])
        if len(behind) != 1 or integers_in(behind[0], "perm", ()) != TO_CHANNELS_LAST:
            return model, False
        (transpose,) = behind
        last = shape_of(model, transpose.output[0])
        kind, new = model.get_tensor_datatype(entry), []
        images = add_tensor(model, last) if self.transposed else entry
        if self.transposed:
            new.append(rewired(transpose, entry, images))
        new.append(rewired(quantizer, images, transpose.output[0]))
        attributes_of(new[-1]).set_nodeattr("data_layout", "NHWC")
        replace(model, [quantizer, transpose], new)
        if not self.transposed:
            model.set_tensor_shape(entry, last)
            model.set_tensor_datatype(entry, kind)
        model.set_tensor_layout(images, data_layout.NHWC)
        return model, False
