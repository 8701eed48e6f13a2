"""Build new nodes, one behind the other, with the constants that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, helper

from ..graph_edits import GENERAL


@dataclass
class NodeBuilder:
    """Nodes that are to be put into a graph.

    Attributes:
        tensor: what the next node reads: the last one's output, or where the first one begins.
        nodes: in order.
        constants: their values by the names of their tensors.

    >>> built = NodeBuilder("x")
    >>> built.quant("act", 2, signed=False, narrow=False, rounding="FLOOR")
    >>> built.tensor, list(built.constants)
    ('act_out', ['act_scale', 'act_zero_point', 'act_bits'])
    """

    tensor: str
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def append(self, node: NodeProto) -> None:
        """Add a node that reads ``tensor``."""
        self.nodes.append(node)
        self.tensor = node.output[0]

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """The name, which the value is kept under."""
        self.constants[name] = value
        return name

    def add_node(
        self, kind: str, name: str, operands: Mapping[str, ArrayLike], **options: Any
    ) -> None:
        """Add a node that reads ``tensor`` and float32 constants of its own.

        Args:
            kind: the operator.
            name: of the node; those of its tensors begin with it.
            operands: values, by what they are.
            **options: its domain and attributes.
        """
        inputs = [
            self.add_constant(f"{name}_{what}", np.asarray(value, np.float32))
            for what, value in operands.items()
        ]
        self.append(
            helper.make_node(kind, [self.tensor, *inputs], [f"{name}_out"], name, **options)
        )

    def affine(self, name: str, factor: np.ndarray, offset: np.ndarray) -> None:
        """``factor·x + offset`` for each channel: a batch norm that does nothing else.

        Args:
            name: of the node.
            factor, offset: arrays (C,).
        """
        plain = {"mean": np.zeros_like(factor), "variance": np.ones_like(factor)}
        parameters = {"scale": factor, "bias": offset, **plain}
        self.add_node("BatchNormalization", name, parameters, epsilon=0.0)

    def quant(self, name: str, bits: int, *, signed: bool, narrow: bool, rounding: str) -> None:
        """Integers of some bits, saturating."""
        self.add_node(
            "Quant", name, {"scale": 1, "zero_point": 0, "bits": bits}, domain=GENERAL,
            signed=int(signed), narrow=int(narrow), rounding_mode=rounding,
        )  # fmt: skip
