"""What the tensors of an exported graph are, in the graph of integers that is written for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from ..errors import ExportError
from .exported_graph import describe


class RefusedNodeError(ExportError):
    """A node that has no exact form.

    Attributes:
        what: the reason, behind the name of the node or layer.
        node: of the exported graph.
        requirement: which one of ``check_deployable`` it breaks.
    """

    def __init__(
        self, node: NodeProto, what: str, requirement: str = "exact-form", *, name: str = ""
    ) -> None:
        super().__init__(f"{name or describe(node)} {what}")
        self.what, self.node, self.requirement = what, node, requirement


@dataclass(frozen=True)
class Integers:
    """A tensor of integers that PyTorch has as ``integer·scale + bias``.

    Attributes:
        tensor: its name in the graph that is written.
        shape: channels first.
        low, high: smallest and largest integer.
        scale: float32 array (1,), or (C,) for one of each channel; positive.
        name: of the layer or quantizer that gives them, for messages.
        unit: what one of them is in the graph that is written, a power of two.
        bias: float32 array (C,), or None.
        quantizer: name of the quantizer behind which only pools and flattenings stand, or of
            several behind a concatenation; "" without one.
    """

    tensor: str
    shape: tuple[int, ...]
    low: int
    high: int
    scale: np.ndarray
    name: str
    unit: float = 1.0
    bias: np.ndarray | None = None
    quantizer: str = ""

    @property
    def is_uniform(self) -> bool:
        """Whether all channels have one scale, and no bias."""
        return self.bias is None and bool((self.scale == self.scale[0]).all())


@dataclass(frozen=True)
class Pending:
    """A tensor of the exported graph: integers, and what has yet to be done with them.

    Attributes:
        integers: where it begins; None for the graph's input.
        chain: elementwise nodes, pools and flattenings that follow.
    """

    integers: Integers | None
    chain: tuple[NodeProto, ...] = ()

    def then(self, node: NodeProto) -> Pending:
        """The same with one node more."""
        return replace(self, chain=(*self.chain, node))
