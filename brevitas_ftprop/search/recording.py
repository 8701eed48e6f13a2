"""What a forward pass computes of quantizers' outputs, recorded so that it can be computed again.

A recording is made of torch's own operators as they run, below autograd and autocast, so that it
needs no tracing of Python and holds for control flow, functions and quantized tensors alike.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten
# What is cut off from the gradient, though it has the same values.
CUTS = {aten.detach.default}
BATCH_NORMS = {
    getattr(aten, name)
    for name in (
        "native_batch_norm",
        "_native_batch_norm_legit",
        "_batch_norm_with_update",
        "cudnn_batch_norm",
        "miopen_batch_norm",
    )
    if hasattr(aten, name)
}
DROPOUTS = {aten.native_dropout}


class NotRepeatableError(ValueError):
    """What was recorded cannot be computed again for other values; the sentence says why."""


@dataclass(eq=False)
class Value:
    """A tensor that depends on a quantizer's output.

    Attributes:
        shape, dtype: of the tensor.
        tensor: weak reference to the tensor.
        is_choice: whether no gradient passes: integers and truths, and what was detached.
        consumers: the operators that read it, in their order.
        readers: the calls of quantizers that it is the input of.
    """

    shape: torch.Size
    dtype: torch.dtype
    tensor: weakref.ref[Tensor]
    is_choice: bool = False
    consumers: list[Node] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)

    @property
    def is_scalar(self) -> bool:
        """Whether it has no dimensions, as a loss or a statistic of a whole batch."""
        return not self.shape

    @property
    def is_last(self) -> bool:
        """Whether nothing that a gradient passes was computed of it."""
        made = [output for node in self.consumers for output in node.outputs]
        return all(each is None or each.is_choice for each in made)


@dataclass(frozen=True, eq=False)
class Ref:
    """A tensor that an operator reads.

    Attributes:
        value: what the recording knows of it; None for one that depends on no quantizer. Held by
            its identity alone, or a recording would hold itself.
        data: the tensor, detached; None where it is the only recorded one that the operator reads,
            and so is always computed again.
        shape: of the tensor.
        source: weak reference to the tensor itself, which tells whether it is overwritten.
        version: of the tensor when it was read.
    """

    value: int | None
    data: Tensor | None
    shape: torch.Size
    source: weakref.ref[Tensor] | None = None
    version: int = 0

    def held(self) -> Tensor:
        """The tensor as it was when it was read.

        Raises:
            NotRepeatableError: if it has been overwritten since.
        """
        assert self.data is not None
        source = None if self.source is None else self.source()
        if source is not None and source._version != self.version:
            raise NotRepeatableError("a tensor between the layers is overwritten in place")
        return self.data


@dataclass(eq=False)
class Node:
    """An operator that ran, what it read and what came of it.

    Attributes:
        order: its place among all that ran.
        func: the operator, an overload of ``torch.ops``.
        args, kwargs: with a :class:`Ref` for each tensor.
        written: positions of the arguments that it changes in place; they are then its outputs.
        outputs: a value for each, None for what is no tensor or not asked for.
        extras: detached further results: a batch norm's statistics, indices, masks.
    """

    order: int
    func: Any
    args: tuple
    kwargs: dict[str, Any]
    written: tuple[int, ...]
    outputs: list[Value | None]
    extras: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Of the operator, whether it writes in place or not."""
        if isinstance(self.func, Opaque):
            return str(self.func)
        return self.func._schema.name.rpartition("::")[2].rstrip("_")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its output, where it has one that depends on the quantizer."""
        return next(tuple(each.shape) for each in self.outputs if each is not None)

    @property
    def is_choice(self) -> bool:
        """Whether no gradient passes it."""
        return all(each is None or each.is_choice for each in self.outputs)

    @property
    def only_output(self) -> Value | None:
        """Its first output, None where others are asked for."""
        first, *others = self.outputs
        return None if any(each is not None for each in others) else first

    @property
    def refs(self) -> list[Ref]:
        """What it reads."""
        return [each for each in _leaves(self.args, self.kwargs) if isinstance(each, Ref)]

    def argument(self, name: str) -> Any:
        """An argument by its name in the operator's schema; None where there is none."""
        for position, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                left_out = argument.default_value
                given = self.args[position] if position < len(self.args) else left_out
                return self.kwargs.get(name, given)
        return None


class Opaque:
    """A function of one's own that stands among the operators: only its result is known.

    >>> Opaque(torch.sign)(torch.tensor(-2.0))
    tensor(-1.)
    """

    tags = ()

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self._function = function

    def __call__(self, x: Tensor) -> Tensor:
        return self._function(x.detach())

    def __str__(self) -> str:
        return f"the function {getattr(self._function, '__name__', self._function)}"

    @property
    def overloadpacket(self) -> Opaque:
        """Itself, as operators have it."""
        return self


class Recording(TorchDispatchMode):
    """Records the operators that run on values of quantizers, where autograd records them too.

    Between :meth:`hide` and :meth:`show` nothing is recorded: that is the inside of a quantizer.
    What runs in a backward pass is no part of a forward pass, though a checkpoint computes it.

    >>> h = torch.tensor([1.0, -1.0], requires_grad=True)
    >>> with Recording() as recording:
    ...     value = recording.add(h)
    ...     loss = (2 * h).sum()
    >>> [node.func.__name__ for node in recording.after(value)]
    ['mul.Tensor', 'sum.default']
    """

    _under_way: ClassVar[list[Recording]] = []
    _pauses: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self._values = WeakTensorKeyDictionary()
        self._hidden = self._count = 0

    def add(self, tensor: Tensor, *, is_choice: bool = False) -> Value:
        """Record what is computed of a tensor from now on."""
        value = Value(tensor.shape, tensor.dtype, weakref.ref(tensor), is_choice)
        self._values[tensor] = value
        return value

    def of(self, tensor: Tensor) -> Value | None:
        """The value that a tensor holds, None for one that depends on no quantizer."""
        return self._values.get(tensor)

    @classmethod
    def add_function(cls, function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> None:
        """Record in all recordings that are under way that a function gave ``y`` for ``x``."""
        for recording in cls._under_way:
            value = recording.of(x)
            if value is not None and not recording._hidden and recording.is_under_way:
                recording._count += 1
                args, outputs = (Ref(id(value), None, x.shape),), [recording.add(y)]
                node = Node(recording._count, Opaque(function), args, {}, (), list(outputs), ())
                value.consumers.append(node)

    @classmethod
    @contextmanager
    def paused(cls) -> Iterator[None]:
        """Inside, no recording is under way: for passes that are none of the training's own."""
        Recording._pauses += 1
        try:
            yield
        finally:
            Recording._pauses -= 1

    @property
    def is_under_way(self) -> bool:
        """Whether what runs now is a forward pass with gradients that is to be recorded."""
        return torch.is_grad_enabled() and self._is_watching

    @property
    def _is_watching(self) -> bool:
        # What is computed without gradients may be read by what has some.
        return self in self._under_way and not self._pauses and backward_pass() == -1

    def __enter__(self) -> Recording:
        self._under_way.append(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._under_way.remove(self)
        super().__exit__(*error)

    def hide(self) -> None:
        self._hidden += 1

    def show(self) -> None:
        self._hidden -= 1

    @staticmethod
    def after(value: Value) -> list[Node]:
        """All operators that a value reaches, in the order in which they ran."""
        found: dict[int, Node] = {}
        pending = [value]
        while pending:
            for node in pending.pop().consumers:
                if node.order not in found:
                    found[node.order] = node
                    pending += [output for output in node.outputs if output is not None]
        return [found[order] for order in sorted(found)]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._hidden or not self._values or not self._is_watching:
            return func(*args, **kwargs)
        read = {
            id(each): value
            for each in _leaves(args, kwargs)
            if isinstance(each, Tensor) and (value := self._values.get(each)) is not None
        }
        if not read or reads_no_values(func):
            return func(*args, **kwargs)
        written = _written_positions(func, args)

        def reference(each: Any) -> Any:
            if not isinstance(each, Tensor):
                return each
            value = read.get(id(each))
            # A number of a whole batch is held as it was, and never computed again.
            if value is not None and len(read) == 1 and not value.is_scalar:
                return Ref(id(value), None, each.shape)
            key = None if value is None else id(value)
            if written:
                # What the operator writes to would be lost.
                return Ref(key, each.detach().clone(), each.shape)
            # Outside of a graph it can be held itself, which tells more surely what becomes of it.
            data = each.detach() if each.requires_grad else each
            return Ref(key, data, each.shape, weakref.ref(each), each._version)

        recorded = with_leaves(reference, args), with_leaves(reference, kwargs)
        result = func(*args, **kwargs)
        self._record(func, recorded, read, [args[each] for each in written], written, result)
        return result

    def _record(self, func, recorded, read, changed, written, result) -> None:
        results = changed or (list(result) if isinstance(result, (list, tuple)) else [result])
        is_choice = (
            not torch.is_grad_enabled()
            or func in CUTS
            or all(value.is_choice for value in read.values())
        )
        outputs = [
            self.add(each, is_choice=is_choice or not each.is_floating_point())
            if isinstance(each, Tensor)
            else None
            for each in (results[:1] if _holds_further_results(func) else results)
        ]
        if any(outputs):
            extras = result[1:] if isinstance(result, tuple) else ()
            kept = tuple(each.detach() if isinstance(each, Tensor) else each for each in extras)
            self._count += 1
            args, kwargs = recorded
            node = Node(self._count, func, args, kwargs, written, outputs, kept)
            for value in {id(value): value for value in read.values()}.values():
                value.consumers.append(node)


def with_leaves(change: Callable[[Any], Any], given: Any) -> Any:
    """An operator's arguments, each changed; lists are as deep as an operator takes them.

    >>> with_leaves(str, (1, [2, 3]))
    ('1', ['2', '3'])
    """
    if isinstance(given, dict):
        return {name: with_leaves(change, each) for name, each in given.items()}
    if isinstance(given, (tuple, list)):
        return type(given)([with_leaves(change, each) for each in given])
    return change(given)


def _leaves(args: tuple, kwargs: dict[str, Any]) -> Iterator[Any]:
    for each in (*args, *kwargs.values()):
        if isinstance(each, (tuple, list)):
            yield from each
        else:
            yield each


def backward_pass() -> int:
    """Number of the backward pass that runs this, none of which has that of another; -1 outside."""
    return torch._C._current_graph_task_id()


def reads_no_values(func: Any) -> bool:
    """Whether an operator looks at its tensors' shapes only.

    >>> reads_no_values(torch.ops.aten.zeros_like.default)
    True
    """
    name = func._schema.name.rpartition("::")[2]
    return name.endswith("_like") or name.startswith("new_")


def _holds_further_results(func: Any) -> bool:
    """Whether an operator's further results are statistics or a mask, which are held."""
    names = [argument.name for argument in func._schema.arguments]
    return func.overloadpacket in BATCH_NORMS | DROPOUTS or "reduction" in names


def _written_positions(func: Any, args: tuple) -> tuple[int, ...]:
    return tuple(
        position
        for position, argument in enumerate(func._schema.arguments[: len(args)])
        if argument.alias_info is not None and argument.alias_info.is_write
    )
