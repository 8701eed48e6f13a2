"""Put the nodes of a partition together as FINN would stitch them."""

from __future__ import annotations

from collections import Counter
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, cast

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from ...errors import VerificationError
from ..execution import HARDWARE
from ..rtl.adapters import adapter_of
from ..rtl.design import DeviceTarget, Port, attribute
from ..rtl.partition import inputs_of
from .hls_source import HlsSource, write_source
from .layer_models import CONVERTER, layer_model, ports, stream_inputs
from .network import IN, OUT, Fifo, Network, Unit

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp


def build_network(
    model: ModelWrapper, folder: Path, target: DeviceTarget, *, with_sources: bool = False
) -> Network:
    """Insert data-width converters and FIFOs as FINN does, and write the RTL of the RTL nodes.

    Args:
        model: the partition; is not changed.
        folder: gets a folder ``node_<i>`` for the files of each unit with RTL.
        target: of the RTL.
        with_sources: let FINN write the C++ of layers in HLS, too.

    Raises:
        VerificationError: for several outputs, nodes without names of their own, software nodes,
            nodes without a model (all of them are named), a tensor with several readers, or
            neighbours whose streams differ.
    """
    from finn.transformation.fpgadataflow.insert_dwc import InsertDWC

    _check_nodes(model)
    before = {node.name for node in model.graph.node}
    wide = ModelWrapper(model.model, make_deepcopy=True).transform(InsertDWC())
    units, same_values = [], {}
    for index, node in enumerate(wide.graph.node):
        if node.op_type == CONVERTER:
            same_values[node.output[0]] = node.input[0]
        if node.name not in before:
            node.name = f"{CONVERTER}_{len(same_values) - 1}"
        op = cast("HWCustomOp", getCustomOp(node))
        units.append(_unit(op, wide, folder / f"node_{index}", target, with_sources))
    return Network(units, _fifos(wide, units), same_values)


def _check_nodes(model: ModelWrapper) -> None:
    outputs = [value.name for value in model.graph.output]
    if len(outputs) != 1:
        raise VerificationError(
            f"the partition has {len(outputs)} outputs ({', '.join(outputs)}); accelerators with "
            "one can be simulated as a whole"
        )
    names = [node.name for node in model.graph.node]
    if "" in names or len(set(names)) < len(names):
        raise VerificationError(
            "nodes of the partition have no name, or one that others have, too: run qonnx's "
            "GiveUniqueNodeNames first"
        )
    software = [n.name or n.op_type for n in model.graph.node if not n.domain.startswith(HARDWARE)]
    if software:
        raise VerificationError(
            f"the partition has software nodes, which no accelerator runs: {', '.join(software)}"
        )
    reasons: dict[str, str] = {}
    for node in model.graph.node:
        op = cast("HWCustomOp", getCustomOp(node))
        if _has_rtl(op):
            continue
        made = layer_model(op, model)
        if isinstance(made, str):
            reasons[node.name] = made
    if reasons:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise VerificationError(f"the accelerator cannot be simulated as a whole: {told}")
    readers = Counter(name for node in model.graph.node for name in node.input)
    for name, count in readers.items():
        if count > 1 and model.get_initializer(name) is None:
            raise VerificationError(
                f"{name} has {count} readers, but a stream has one: run FINN's"
                " InferDuplicateStreamsLayer"
            )


def _has_rtl(op: HWCustomOp) -> bool:
    """Whether a node's own RTL is run; a C++ layer stands for others, in RTL too."""
    adapter = adapter_of(op.onnx_node)
    return adapter is not None and adapter.obstacle(op) is None


def _unit(
    op: HWCustomOp, model: ModelWrapper, folder: Path, target: DeviceTarget, with_source: bool
) -> Unit:
    node, adapter = op.onnx_node, adapter_of(op.onnx_node)
    streams, source = stream_inputs(op, model), None
    if adapter is not None and _has_rtl(op):
        folder.mkdir()
        part = adapter.design(op, model, folder, target)
        sources, sinks = (part.source,), (part.sink,)
        streams = streams[:1]
    else:
        part = layer_model(op, model)
        assert not isinstance(part, str)
        sources, sinks = ports(op, model)
        if with_source and node.op_type.endswith("_hls"):
            source = _source(op, model, folder, target)
    cycles = int(op.get_exp_cycles())
    pixels = prod(op.get_folded_output_shape()[:-2])
    return Unit(
        name=node.name,
        op_type=node.op_type,
        part=part,
        source=source,
        sources=sources,
        sinks=sinks,
        taken=tuple(node.input[i] for i in streams),
        given=tuple(node.output),
        places=tuple(streams),
        estimated_cycles=cycles,
        silence=ceil(cycles / pixels),
    )


def _source(
    op: HWCustomOp, model: ModelWrapper, folder: Path, target: DeviceTarget
) -> HlsSource | str:
    try:
        return write_source(op, model, folder, target)
    except VerificationError as error:
        return str(error)


def _fifos(model: ModelWrapper, units: list[Unit]) -> list[Fifo]:
    producers = {name: (unit, i) for unit in units for i, name in enumerate(unit.given)}
    consumers = {name: (unit, i) for unit in units for i, name in enumerate(unit.taken)}
    (source,), (sink,) = inputs_of(model), [value.name for value in model.graph.output]
    between = [name for unit in units for name in unit.given if name != sink]
    names = _finn_names(model, [source, *between, sink])
    fifos = []
    for tensor in [source, *between, sink]:
        producer, output = producers.get(tensor, (None, 0))
        consumer, entry = consumers.get(tensor, (None, 0))
        given = None if producer is None else producer.sinks[output]
        taken = None if consumer is None else consumer.sources[entry]
        if given is not None and taken is not None:
            assert producer is not None
            assert consumer is not None
            _check_neighbours(producer, given, consumer, taken)
        port = given or taken
        assert port is not None
        depths = [
            *([] if producer is None else [_depth(model, producer, OUT, output)]),
            *([] if consumer is None else [_depth(model, consumer, IN, consumer.places[entry])]),
        ]
        fifos.append(
            Fifo(
                name=names[tensor],
                tensor=tensor,
                port=port,
                producer=None if producer is None else producer.name,
                output=output,
                consumer=None if consumer is None else consumer.name,
                input=entry,
                place=0 if consumer is None else consumer.places[entry],
                depth=max(depths),
            )
        )
    return fifos


def _check_neighbours(producer: Unit, given: Port, consumer: Unit, taken: Port) -> None:
    if given.element != taken.element or given.shape[-1] != taken.shape[-1]:
        raise VerificationError(
            f"{producer.name} gives transactions of {_described(given)}, but {consumer.name} takes"
            f" {_described(taken)}: run FINN's InferDataTypes, and fold both alike or let FINN"
            " insert a data-width converter"
        )
    if prod(given.shape) != prod(taken.shape):
        raise VerificationError(
            f"{producer.name} gives {prod(given.shape)} values an image, but {consumer.name} takes"
            f" {prod(taken.shape)}"
        )


def _described(port: Port) -> str:
    count, element = port.shape[-1], port.element
    return f"{count} {element.encoding} values of {element.bits} bits"


def _depth(model: ModelWrapper, unit: Unit, which: str, index: int) -> int:
    """As FINN's InsertFIFO reads it: the last one counts for all behind it."""
    node = next(node for node in model.graph.node if node.name == unit.name)
    depths = attribute(cast("HWCustomOp", getCustomOp(node)), which)
    return int(depths[min(index, len(depths) - 1)])


def _finn_names(model: ModelWrapper, tensors: list[str]) -> dict[str, str]:
    """The name that FINN's builder gives the FIFO of each tensor."""
    from finn.transformation.fpgadataflow.insert_fifo import InsertFIFO

    stitched = ModelWrapper(model.model, make_deepcopy=True)
    try:
        stitched = stitched.transform(InsertFIFO(create_shallow_fifos=True))
    # FINN has its own class of errors, and others below it.
    except Exception as error:
        raise VerificationError(f"FINN cannot insert the FIFOs: {error}") from error
    inserted = [node for node in stitched.graph.node if node.op_type.startswith("StreamingFIFO")]
    names = {}
    for index, node in enumerate(inserted):
        known = [name for name in (*node.input, *node.output) if name in tensors]
        names[known[0]] = f"StreamingFIFO_rtl_{index}"
    return names
