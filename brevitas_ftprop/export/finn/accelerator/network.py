"""The nodes of an accelerator and the FIFOs between them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ..rtl.design import Design, Port
from .hls_source import HlsSource
from .layer_models import LayerModel

SHALLOWEST = 2
# As FINN's nodes and its folding files name the depths.
IN, OUT = "inFIFODepths", "outFIFODepths"


@dataclass(frozen=True)
class Unit:
    """One node.

    Attributes:
        name, op_type: in the partition; data-width converters have names of our own.
        part: its RTL, or the C++ layer that stands for it.
        source: FINN's own C++ of a layer in HLS, or why there is none; None if nobody asked.
        sources, sinks: its streams.
        taken, given: names of the tensors that they carry.
        places: which of the node's inputs the taken ones are.
        estimated_cycles: FINN's estimate for one image.
        silence: cycles after which it has taken or given something, if it can.
    """

    name: str
    op_type: str
    part: Design | LayerModel
    source: HlsSource | str | None
    sources: tuple[Port, ...]
    sinks: tuple[Port, ...]
    taken: tuple[str, ...]
    given: tuple[str, ...]
    places: tuple[int, ...]
    estimated_cycles: int
    silence: int


@dataclass(frozen=True)
class Fifo:
    """What stands between two nodes, or between a node and the outside.

    Attributes:
        name: that FINN's builder gives it.
        tensor: that it carries.
        port: the stream as its producer has it.
        producer, consumer: names of nodes; None at the ends.
        output, input: which of their streams.
        place: which of the consumer's inputs.
        depth: transactions that it holds, as the nodes' attributes say.
    """

    name: str
    tensor: str
    port: Port
    producer: str | None
    output: int
    consumer: str | None
    input: int
    place: int
    depth: int

    @property
    def bits(self) -> int:
        """Width of a transaction."""
        return self.port.element.bits * self.port.shape[-1]

    @property
    def words(self) -> int:
        """32-bit words of a transaction."""
        return ceil(self.bits / 32)

    @property
    def ends(self) -> str:
        """Between what it stands, in words."""
        return f"{self.producer or 'the input'} and {self.consumer or 'the output'}"


@dataclass(frozen=True)
class Network:
    """All of an accelerator.

    Attributes:
        units: in graph order.
        fifos: that of the input first, that of the output last.
        same_values: tensors behind data-width converters, and the tensor before each of them.
    """

    units: list[Unit]
    fifos: list[Fifo]
    same_values: dict[str, str]
