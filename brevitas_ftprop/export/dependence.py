"""Which calls of a model's quantizers its output depends on, and whether a traced graph has them.

Exporters leave out what they take for constant, a whole recurrent layer for one, and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from onnx import ModelProto, NodeProto
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import Module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..levels import tensor_quant_of
from .errors import ExportError
from .quantizers import quantizer_proxies
from .tags import marked_calls

# A quantizer's name and the number of its call; the model's input is a call of no quantizer.
Call = tuple[str, int]
INPUT: Call = ("", 0)


def run_traced(model: Module, example: Tensor) -> tuple[Any, set[Call]]:
    """A model's output, and the quantizer calls of this forward pass that it depends on.

    Calls are numbered quantizer by quantizer, from 0; those with a zero-dimensional input, with
    which Brevitas asks for scales, do not count. The set holds ``INPUT`` too if the output depends
    on the input, and what was read as a Python number, whatever became of that.
    """
    dependence = Dependence()
    with ExitStack() as hooks, dependence:
        for name, proxy in quantizer_proxies(model).items():
            quantizer = tensor_quant_of(proxy)
            if quantizer is not None:
                label = _labeller(name, dependence)
                hooks.enter_context(quantizer.register_forward_hook(label))
        source = example.detach().clone()
        dependence.add(source, INPUT)
        output = model(source)
    return output, dependence.of(output) | dependence.read


def check_complete(graph: ModelProto, needed: set[Call]) -> None:
    """Raise unless a freshly traced graph has every call that the model's output depends on.

    Args:
        graph: with its markers still in place.
        needed: as ``run_traced`` tells.

    Raises:
        ExportError: names the quantizer whose call is missing, or says that the graph's output is
            the same for every input.
    """
    reached, nodes = _before_output(graph)
    if not {entry.name for entry in graph.graph.input} & reached:
        raise ExportError(
            "the traced graph's output does not depend on its input: a layer of this model cannot "
            "be traced (recurrent ones cannot), or forward leaves tensors for numbers"
        )
    for name, call in sorted(needed - {INPUT} - marked_calls(nodes)):
        raise ExportError(
            f"{name} quantizes what the output depends on (its call {call}), but is missing in the "
            "traced graph: the exporter has taken the layers around it for a constant, or "
            "cannot write them"
        )


class Dependence(TorchDispatchMode):
    """Follows labels from tensors to all that is computed of their values.

    Attributes:
        read: the labels of tensors that were read as Python numbers.

    >>> x, y = torch.ones(2), torch.ones(2)
    >>> dependence = Dependence()
    >>> dependence.add(x, ("x", 0))
    >>> with dependence:
    ...     z = y + x.view(2, 1).relu()
    ...     shape_only = torch.zeros_like(x) + y
    >>> dependence.of(z), dependence.of(shape_only)
    ({('x', 0)}, set())
    """

    def __init__(self) -> None:
        super().__init__()
        # Views share a storage. A weak reference keeps its identity from being used again.
        self._labels: dict[StorageWeakRef, set[Call]] = {}
        self.read: set[Call] = set()

    def add(self, tensor: Tensor, label: Call) -> None:
        """Label a tensor's values."""
        self._labels.setdefault(_storage(tensor), set()).add(label)

    def of(self, value: object) -> set[Call]:
        """The labels of all tensors in a value."""
        return set().union(*(self._labels.get(_storage(each), ()) for each in _tensors(value)))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        labels = set() if _reads_no_values(func) else self.of((args, kwargs))
        if func is torch.ops.aten._local_scalar_dense.default:
            self.read |= labels
        elif labels:
            changed = [
                args[index]
                for index, argument in enumerate(func._schema.arguments[: len(args)])
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
            for tensor in _tensors((result, changed)):
                self._labels.setdefault(_storage(tensor), set()).update(labels)
        return result


def _labeller(name: str, dependence: Dependence) -> Callable[..., None]:
    count = 0

    def label(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal count
        if inputs[0].dim() > 0:
            value = output[0] if isinstance(output, tuple) else output
            dependence.add(value, (name, count))
            count += 1

    return label


def _reads_no_values(func: Any) -> bool:
    """Whether an operator looks at its tensors' shapes only."""
    name = func._schema.name.rpartition("::")[2]
    return name.endswith("_like") or name.startswith("new_")


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _before_output(graph: ModelProto) -> tuple[set[str], list[NodeProto]]:
    """The tensors and nodes that the graph's outputs depend on."""
    producers = {name: node for node in graph.graph.node for name in node.output}
    pending, reached, nodes = [entry.name for entry in graph.graph.output], set(), {}
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        node = producers.get(name)
        if node is not None and id(node) not in nodes:
            nodes[id(node)] = node
            pending += _read_by(node)
    return reached, list(nodes.values())


def _read_by(node: NodeProto) -> list[str]:
    """What a node reads, in its branches and loops too."""
    names = list(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            names += _read_by(inner)
    return names
