"""Backward through linear operators with their coefficients squared.

Where ``y = J·x``, ordinary backward takes v to ``Jᵀ·v``, and this takes it to ``(J∘J)ᵀ·v``: what
the diagonal of a second derivative passes. Selections (ReLU, maximum) are those made at x, and
batch norms keep their statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .recording import BATCH_NORMS, DROPOUTS, Node, NotRepeatableError, Ref
from .replay import batch_norm_affine, filled, run
from .values import Values

aten = torch.ops.aten
Squares = list[Tensor | None]

# Each output is one input, or the sum of some.
SUMMING = {
    "_unsafe_view",
    "cat",
    "constant_pad_nd",
    "expand",
    "flatten",
    "flip",
    "index_select",
    "permute",
    "pixel_shuffle",
    "reshape",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "stack",
    "sum",
    "t",
    "transpose",
    "unbind",
    "unsqueeze",
    "view",
}
UNCHANGED = {"_to_copy", "add", "alias", "clone", "neg", "rsub", "sub"}
PIECEWISE = {
    "abs",
    "clamp",
    "clamp_max",
    "clamp_min",
    "hardtanh",
    "leaky_relu",
    "relu",
    "threshold",
}
AVERAGES = {"_adaptive_avg_pool2d", "avg_pool2d", "mean"}
# Several inputs add up to one output.
MIXING = {"addmm", "baddbmm", "bmm", "convolution", "mm", "sum", *AVERAGES}
# One input reaches several outputs.
SPREADING = {"addmm", "baddbmm", "bmm", "convolution", "expand", "index_select", "mm"}
# Where several operands may depend on the units, and the result is linear in all of them.
ADDITIVE = {"add", "cat", "rsub", "stack", "sub"}


def is_linear(node: Node, depends: set[int]) -> bool:
    """Whether an operator is linear, but for selections and a constant, in what it reads.

    Args:
        node: the operator.
        depends: identities of the values that depend on the units.
    """
    name, read = kind(node), _read(node, depends)
    if name in ADDITIVE:
        return True
    if node.kwargs.get("rounding_mode") is not None:
        return False
    known = SUMMING | UNCHANGED | PIECEWISE | AVERAGES | set(TABLE)
    return name in known and len(read) == 1 and _reads_as_input(node, name, read[0])


def check_single_ways(nodes: list[Node], source: int) -> set[int]:
    """Make sure that each number depends on each unit in one way at most, and linearly.

    Squares of coefficients multiply along one way; of two that meet, ``(a + b)²`` is no sum of
    squares.

    Args:
        nodes: operators in their order.
        source: identity of the units' value.

    Returns:
        Identities of the values that depend on the units.

    Raises:
        NotRepeatableError: for the first operator where that does not hold.
    """
    depends, spread = {source}, set()
    for node in nodes:
        packet, name, read = node.func.overloadpacket, kind(node), _read(node, depends)
        if not is_linear(node, depends):
            raise NotRepeatableError(f"{packet} is not linear in the units")
        outputs = {id(output) for output in node.outputs if output is not None}
        several = read[0].value in spread
        if len(read) > 1 or (several and name in MIXING):
            raise NotRepeatableError(f"ways from one unit meet at {packet}, and squares do not add")
        if several or name in SPREADING or _overlaps(node, read[0]):
            spread |= outputs
        depends |= outputs
    return depends


def squared_backward(
    node: Node, squares: Squares, depends: set[int], values: Values
) -> tuple[int, Tensor]:
    """What reaches an operator's input of sums of squares at its outputs.

    Args:
        node: the operator.
        squares: for each of its outputs, free to be overwritten; None for one that nothing comes
            from.
        depends: identities of the values that depend on the units.
        values: tensors between, for selections.

    Returns:
        Identity of the input, and a tensor of its shape.

    Raises:
        NotRepeatableError: for a pooling whose means are of different numbers of inputs.
    """
    (ref,), name = _read(node, depends), kind(node)
    assert ref.value is not None
    if name in SUMMING:
        return ref.value, _transposed(node, squares, ref)
    square, *others = squares
    if square is None or any(each is not None for each in others):
        raise NotRepeatableError(f"{node.func.overloadpacket} has several results")
    if name in AVERAGES:
        return ref.value, _transposed(node, [square / averaged(node, ref)], ref)
    if name in PIECEWISE:
        return ref.value, square.mul_(_derivative(node, values[ref.value]).square())
    if name in UNCHANGED:
        # The factor is the second operand's, whose place "rsub" takes for its first.
        if (ref is node.args[0]) == (name == "rsub"):
            square = square * node.kwargs.get("alpha", 1) ** 2
        return ref.value, square.sum_to_size(ref.shape)
    return ref.value, TABLE[name](node, square, ref, values)


def kind(node: Node) -> str:
    """Name of an operator, one for all that are batch norms or dropouts."""
    packet = node.func.overloadpacket
    if packet in BATCH_NORMS:
        return "batch_norm"
    return "dropout" if packet in DROPOUTS else node.name


def _read(node: Node, depends: set[int]) -> list[Ref]:
    return [ref for ref in node.refs if ref.value in depends]


def _reads_as_input(node: Node, name: str, ref: Ref) -> bool:
    """Whether it is linear in this one of its operands."""
    if name in ("div", "convolution", "batch_norm") or name in PIECEWISE:
        return ref is node.args[0]
    return not (name in ("addmm", "baddbmm") and ref is node.args[0])


def _overlaps(node: Node, ref: Ref) -> bool:
    """Whether an input may be in several windows of a pooling, or is repeated by broadcasting."""
    if node.name == "_adaptive_avg_pool2d":
        return any(size % count for size, count in zip(ref.shape[-2:], node.args[1], strict=True))
    if "pool" not in node.name:
        return False
    kernel = node.argument("kernel_size")
    strides = node.argument("stride") or kernel
    return any(each > step for each, step in zip(kernel, strides, strict=True))


def _transposed(node: Node, vectors: Squares, ref: Ref) -> Tensor:
    some = next(each for each in vectors if each is not None)
    x = some.new_zeros(ref.shape, requires_grad=True)
    assert ref.value is not None
    with torch.enable_grad():
        results = run(node, {ref.value: x})
    pairs = [(y, v.to(y.dtype)) for y, v in zip(results, vectors, strict=True) if v is not None]
    outputs, given = zip(*pairs, strict=True)
    (gradient,) = torch.autograd.grad(outputs, x, given)
    return gradient


def _derivative(node: Node, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (y,) = run(node, {node.args[0].value: x})
        return torch.autograd.grad(y.sum(), x)[0]


def averaged(node: Node, ref: Ref) -> Tensor | float:
    """How many inputs each output is the mean of, where each counts one over this number."""
    if node.name == "mean":
        return math.prod(ref.shape) / max(math.prod(node.shape), 1)
    if node.name == "_adaptive_avg_pool2d":
        rows, columns = (
            torch.tensor([-(-(at + 1) * size // count) - at * size // count for at in range(count)])
            for size, count in zip(ref.shape[-2:], node.args[1], strict=True)
        )
        return rows[:, None] * columns
    kernel, padding = node.argument("kernel_size"), node.argument("padding")
    if node.argument("ceil_mode"):
        raise NotRepeatableError(f"{node.func.overloadpacket} with ceil_mode")
    if node.argument("divisor_override"):
        return float(node.argument("divisor_override"))
    size = float(math.prod(kernel))
    if not any(padding or ()) or node.argument("count_include_pad") in (None, True):
        return size
    ones, stride = torch.ones(1, *ref.shape[-2:]), node.argument("stride") or kernel
    return functional.avg_pool2d(ones, kernel, stride, padding) * size


def _convolution(node: Node, square: Tensor, ref: Ref, values: Values) -> Tensor:
    weight, options = filled(node.args[1], values).to(square.dtype), node.args[3:]
    # Of the input only its shape is read.
    x = square.new_zeros(1).expand(ref.shape)
    return aten.convolution_backward(
        square, x, weight.square(), None, *options, [True, False, False]
    )[0]


def _product(node: Node, square: Tensor, ref: Ref, values: Values) -> Tensor:
    *_, left, right = node.args
    scale = node.kwargs.get("alpha", 1) ** 2
    if ref is left:
        other = filled(right, values).to(square.dtype)
        return scale * square @ other.square().transpose(-1, -2)
    return scale * filled(left, values).to(square.dtype).square().transpose(-1, -2) @ square


def _multiple(node: Node, square: Tensor, ref: Ref, values: Values) -> Tensor:
    other = node.args[1] if ref is node.args[0] else node.args[0]
    factor = filled(other, values)
    factor = 1 / factor if node.name == "div" else factor
    return square.mul_(factor**2).sum_to_size(ref.shape)


def _batch_norm(node: Node, square: Tensor, ref: Ref, values: Values) -> Tensor:
    factor, _ = batch_norm_affine(node)
    return square.mul_(factor.square().view(1, -1, *(1,) * (len(ref.shape) - 2)))


def _dropout(node: Node, square: Tensor, ref: Ref, values: Values) -> Tensor:
    return square.mul_(node.extras[0]).div_((1 - node.argument("p")) ** 2)


def _max_pool(node: Node, square: Tensor, ref: Ref, values: Values) -> Tensor:
    assert ref.value is not None
    # Those of the recorded pass are there, for autograd holds them.
    known = values.is_recorded
    places = node.extras[0] if known else node.func(values[ref.value], *node.args[1:])[1]
    dims = 3 if node.name == "max_pool3d_with_indices" else 2
    below = square.new_zeros(ref.shape).flatten(-dims)
    return below.scatter_add_(-1, places.flatten(-dims), square.flatten(-dims)).view(ref.shape)


TABLE: dict[str, Callable[[Node, Tensor, Ref, Values], Tensor]] = {
    "addmm": _product,
    "baddbmm": _product,
    "batch_norm": _batch_norm,
    "bmm": _product,
    "convolution": _convolution,
    "div": _multiple,
    "dropout": _dropout,
    "max_pool2d_with_indices": _max_pool,
    "max_pool3d_with_indices": _max_pool,
    "mm": _product,
    "mul": _multiple,
}
