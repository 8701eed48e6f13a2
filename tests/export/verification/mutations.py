"""Change one thing in an exported file, as a faulty exporter, tool or hand might."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)

from brevitas_ftprop.export.tags import is_tagged

__all__ = ["MUTATIONS", "mutants"]

Mutation = Callable[[GraphProto, random.Random], bool]
MUTATIONS: dict[str, Mutation] = {}
# Where operators hold what.
SCALES = {"Quant": (1,), "BipolarQuant": (1,), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}
BIASES = {"Conv": (2,), "Gemm": (2,), "Add": (0, 1)}
THRESHOLDS = {"MultiThreshold": (1,), "GreaterOrEqual": (1,), "Clip": (1, 2), "Greater": (1,)}
# Pairs that compute the same in either order.
COMMUTING = ({"Conv", "AveragePool"}, {"BatchNormalization", "AveragePool"})
BATCH_NORM = {"gamma": 1, "beta": 2, "mean": 3, "variance": 4}


def mutants(model: ModelProto, kind: str, seed: str) -> Iterator[ModelProto]:
    """Endless copies of a file with one change of a kind each; empty if it has nothing to change.

    Not all of them are valid, or compute something else.
    """
    rng = random.Random(f"{kind} {seed}")
    while True:
        changed = ModelProto.FromString(model.SerializeToString())
        if not MUTATIONS[kind](changed.graph, rng):
            return
        yield changed


def mutation(kind: str) -> Callable[[Mutation], Mutation]:
    def register(change: Mutation) -> Mutation:
        MUTATIONS[kind] = change
        return change

    return register


def constants(graph: GraphProto, places: dict[str, tuple[int, ...]]) -> list[TensorProto]:
    """Initializers that operators read at some of their inputs."""
    named = {tensor.name: tensor for tensor in graph.initializer}
    return [
        named[node.input[position]]
        for node in graph.node
        for position in places.get(node.op_type, ())
        if position < len(node.input) and node.input[position] in named
    ]


def change(tensor: TensorProto, array: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def up(value: np.ndarray) -> np.ndarray:
    if value.dtype == np.float32:
        return np.nextafter(value, np.float32(np.inf))
    return (value.astype(np.int64) + 1).astype(value.dtype)


def percent(value: np.ndarray) -> np.ndarray:
    if value.dtype == np.float32:
        return np.where(value == 0, np.float32(0.01), value * np.float32(1.01))
    return up(value)


def one_element(places, amount) -> Mutation:
    """One element of one constant."""

    def mutate(graph: GraphProto, rng: random.Random) -> bool:
        found = constants(graph, places)
        if not found:
            return False
        tensor = rng.choice(found)
        array = numpy_helper.to_array(tensor).copy()
        index = rng.randrange(array.size)
        array.flat[index] = amount(array.flat[index])
        change(tensor, array)
        return True

    return mutate


for size, amount in (("1 ulp", up), ("1 %", percent)):
    MUTATIONS[f"scale, {size}"] = one_element(SCALES, amount)
    MUTATIONS[f"threshold, {size}"] = one_element(THRESHOLDS, amount)
    MUTATIONS[f"bias, {size}"] = one_element(BIASES, amount)
    for parameter, position in BATCH_NORM.items():
        MUTATIONS[f"{parameter}, {size}"] = one_element({"BatchNormalization": (position,)}, amount)


def weights(graph: GraphProto) -> list[TensorProto]:
    named = {tensor.name: tensor for tensor in graph.initializer}
    first = [named[n.input[0]] for n in graph.node if is_tagged(n) and n.input[0] in named]
    return [tensor for tensor in first if len(tensor.dims) > 1]


@mutation("weight")
def _(graph: GraphProto, rng: random.Random) -> bool:
    tensor = rng.choice(weights(graph))
    array = numpy_helper.to_array(tensor).copy()
    index = rng.randrange(array.size)
    value = array.flat[index]
    array.flat[index] = -value if value != 0 else array.max()
    change(tensor, array)
    return True


@mutation("permuted channels")
def _(graph: GraphProto, rng: random.Random) -> bool:
    """Two channels of a weight, a threshold, a bias or a batch norm's parameters exchanged."""
    norms = [list(n.input[1:]) for n in graph.node if n.op_type == "BatchNormalization"]
    others = [[t.name] for t in (*weights(graph), *constants(graph, {**BIASES, **THRESHOLDS}))]
    groups = [group for group in (norms, others) if group]
    names = rng.choice(rng.choice(groups))
    axis = None
    for tensor in graph.initializer:
        if tensor.name not in names:
            continue
        array = numpy_helper.to_array(tensor).copy()
        if array.ndim == 0:
            return True
        if axis is None:
            axis = rng.randrange(min(array.ndim, 2))
            pair = rng.choices(range(array.shape[axis]), k=2)
        moved = np.moveaxis(array, axis, 0)
        moved[pair] = moved[pair[::-1]]
        change(tensor, array)
    return True


@mutation("attribute")
def _(graph: GraphProto, rng: random.Random) -> bool:
    attribute = rng.choice([a for node in graph.node for a in node.attribute])
    # ONNX Runtime ends the process where it divides by a group, kernel or stride of 0.
    if attribute.name == "group":
        attribute.i += 1
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice((1 - attribute.i, attribute.i + 1))
    elif attribute.type == AttributeProto.FLOAT:
        # A thousandth of an epsilon is less than rounding.
        attribute.f = attribute.f + 0.1
    elif attribute.type == AttributeProto.INTS:
        index = rng.randrange(len(attribute.ints))
        least = 0 if attribute.name in ("pads", "perm", "axes") else 1
        attribute.ints[index] = max(least, attribute.ints[index] + rng.choice((-1, 1)))
    elif attribute.type == AttributeProto.STRING:
        roundings = (b"ROUND", b"CEIL", b"FLOOR", b"DOWN")
        types = (b"INT2", b"UINT2", b"UINT3", b"INT4", b"INT8")
        attribute.s = rng.choice(roundings if attribute.s in roundings else types)
    return True


@mutation("removed node")
def _(graph: GraphProto, rng: random.Random) -> bool:
    node = rng.choice(graph.node)
    bypass(graph, node)
    return True


def bypass(graph: GraphProto, node: NodeProto) -> None:
    """What read the node's result reads its first input; an output keeps its name."""
    source, result = node.input[0], node.output[0]
    graph.node.remove(node)
    computed = {name for other in graph.node for name in other.output}
    if result != graph.output[0].name:
        old, new = result, source
    elif source in computed:
        old, new = source, result
    else:
        graph.output[0].name = source
        return
    for other in graph.node:
        replace(other.input, old, new)
        replace(other.output, old, new)


def replace(names, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


@mutation("swapped nodes")
def _(graph: GraphProto, rng: random.Random) -> bool:
    """Two nodes in a row take each other's place, or a node's inputs do."""
    nodes = list(graph.node)
    index = rng.randrange(len(nodes))
    second = nodes[index]
    first = next((n for n in nodes if n.output[0] == second.input[0]), None)
    if first is None or (len(second.input) > 1 and rng.random() < 0.3):
        second.input[0], second.input[-1] = second.input[-1], second.input[0]
        return True
    if {first.op_type, second.op_type} in COMMUTING:
        return True
    between = first.output[0]
    first.input[0], second.input[0] = between, first.input[0]
    first.output[0], second.output[0] = second.output[0], between
    position = nodes.index(first)
    nodes[position], nodes[index] = second, first
    del graph.node[:]
    graph.node.extend(nodes)
    return True


@mutation("rewired input")
def _(graph: GraphProto, rng: random.Random) -> bool:
    """A node reads another tensor that is there already."""
    index = rng.randrange(1, len(graph.node))
    node = graph.node[index]
    before = [name for other in graph.node[:index] for name in other.output]
    position = rng.randrange(len(node.input))
    constant = {tensor.name for tensor in graph.initializer}
    is_constant = node.input[position] in constant
    node.input[position] = rng.choice(sorted(constant) if is_constant else before)
    return True


def append(graph: GraphProto, *nodes: NodeProto, **constants) -> None:
    """Nodes from ``last`` to ``y`` behind the output, which keeps its name."""
    name = graph.output[0].name
    for node in graph.node:
        replace(node.output, name, "last")
        replace(node.input, name, "last")
    for node in nodes:
        replace(node.output, "y", name)
    graph.node.extend(nodes)
    for constant, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))


def declare(graph: GraphProto, element_type: int, shape: list[int]) -> None:
    output = helper.make_tensor_value_info(graph.output[0].name, element_type, shape)
    graph.output[0].CopyFrom(output)


def output_shape(graph: GraphProto) -> list[int]:
    return [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim]


@mutation("output, rewired")
def _(graph: GraphProto, rng: random.Random) -> bool:
    name = rng.choice([name for node in graph.node for name in node.output])
    # A file is valid only if it says its output's shape; this one still says what it was.
    shape = output_shape(graph)
    graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    infos = [info for info in graph.value_info if info.name != name]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    return True


@mutation("output, renamed")
def _(graph: GraphProto, rng: random.Random) -> bool:
    append(graph, helper.make_node("Identity", ["last"], ["renamed"]))
    graph.output[0].name = "renamed"
    return True


@mutation("output, reshaped")
def _(graph: GraphProto, rng: random.Random) -> bool:
    batch, *rest = output_shape(graph)
    shape = rng.choice(([batch, *rest, 1], [1, batch, *rest], [batch * rest[0], *rest[1:]]))
    append(graph, helper.make_node("Reshape", ["last", "shape"], ["y"]), shape=np.array(shape))
    declare(graph, TensorProto.FLOAT, shape)
    return True


@mutation("output, cast")
def _(graph: GraphProto, rng: random.Random) -> bool:
    to = rng.choice((TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32))
    nodes = [helper.make_node("Cast", ["last"], ["y"], to=to)]
    shape = output_shape(graph)
    if rng.random() < 0.5:
        nodes[0].output[0] = "there"
        nodes.append(helper.make_node("Cast", ["there"], ["y"], to=TensorProto.FLOAT))
        to = TensorProto.FLOAT
    append(graph, *nodes)
    declare(graph, to, shape)
    return True


@mutation("output, changed")
def _(graph: GraphProto, rng: random.Random) -> bool:
    """Negated, one value moved by 1 %, two exchanged, NaN, or shifted all alike."""
    width = output_shape(graph)[1]
    factor, order = np.ones(width, np.float32), list(range(width))
    factor[rng.randrange(width)] = 1.01
    pair = rng.sample(order, 2)
    order[pair[0]], order[pair[1]] = order[pair[1]], order[pair[0]]
    nodes, given = rng.choice(
        (
            (helper.make_node("Neg", ["last"], ["y"]), {}),
            (helper.make_node("Mul", ["last", "factor"], ["y"]), {"factor": factor}),
            (helper.make_node("Mul", ["last", "nan"], ["y"]), {"nan": np.float32(np.nan)}),
            (helper.make_node("Add", ["last", "shift"], ["y"]), {"shift": np.float32(0.01)}),
            (
                helper.make_node("Gather", ["last", "order"], ["y"], axis=1),
                {"order": np.array(order)},
            ),
        )
    )
    append(graph, nodes, **given)
    return True
