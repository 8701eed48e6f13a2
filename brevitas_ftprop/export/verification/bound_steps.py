"""Error bounds of the operators that work element by element or only move elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..float32 import UNIT
from .rounding import Bounded, UnboundedError, exactly

POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _arithmetic(apply: Callable[[Tensor, Tensor], Tensor], propagate: Callable) -> Callable:
    """One IEEE operation: exact where its result is a float32, else 3·u of it.

    One u for its own rounding, two for a factor that the exporter may have folded from others in
    another order than PyTorch.
    """

    def step(attributes: dict[str, Any], a: Bounded, b: Bounded) -> Bounded:
        value, propagated = apply(a.value, b.value), propagate(a, b)
        if not value.is_floating_point():
            return exactly(value)
        is_exact = (propagated == 0) & (value.float().double() == value)
        error = propagated + 3 * UNIT * (value.abs() + propagated)
        return Bounded(value, torch.where(is_exact, 0.0, error))

    return step


def _of_sum(a: Bounded, b: Bounded) -> Tensor:
    return a.error + b.error


def _of_product(a: Bounded, b: Bounded) -> Tensor:
    return a.value.abs() * b.error + b.magnitude * a.error


def _of_quotient(a: Bounded, b: Bounded) -> Tensor:
    smallest = b.value.abs() - b.error
    if bool((smallest <= 0).any()):
        raise UnboundedError("Div by a value that may be zero")
    return (a.error + (a.value / b.value).abs() * b.error) / smallest


def power(attributes: dict[str, Any], base: Bounded, exponent: Bounded) -> Bounded:
    """Error: how far the ends of the base's interval lie, plus 4·u for an inexact pow."""
    if not exponent.is_exact or bool((base.value <= base.error).any()):
        raise UnboundedError("Pow with a computed exponent or a base that may not be positive")
    value = base.value**exponent.value
    ends = ((base.value + side * base.error) ** exponent.value for side in (-1, 1))
    spread = torch.stack([(end - value).abs() for end in ends]).amax(0)
    return Bounded(value, spread + 4 * UNIT * (value.abs() + spread))


def square_root(attributes: dict[str, Any], x: Bounded) -> Bounded:
    return power(attributes, x, exactly(torch.tensor(0.5)))


def relu(attributes: dict[str, Any], x: Bounded) -> Bounded:
    return Bounded(x.value.relu(), x.error)


def clip(attributes: dict[str, Any], x: Bounded, low=None, high=None) -> Bounded:
    limits = [None if limit is None else limit.value for limit in (low, high)]
    if limits == [None, None]:
        return x
    return Bounded(x.value.clamp(*limits), x.error)


def cast(attributes: dict[str, Any], x: Bounded) -> Bounded:
    if attributes["to"] != TensorProto.FLOAT or not x.value.is_floating_point():
        raise UnboundedError("Cast of other types than float32")
    return x


def max_pool(attributes: dict[str, Any], x: Bounded) -> Bounded:
    """Error: the largest error in the window."""
    require_explicit_padding(attributes)
    kernel = attributes["kernel_shape"]
    count = len(kernel)
    padding = torch_pads(attributes.get("pads", [0] * 2 * count))

    def pool(data: Tensor, fill: float) -> Tensor:
        return POOLS[count](
            F.pad(data, padding, value=fill),
            kernel,
            stride=attributes.get("strides", [1] * count),
            dilation=attributes.get("dilations", [1] * count),
            ceil_mode=bool(attributes.get("ceil_mode", 0)),
        )

    return Bounded(pool(x.value, -torch.inf), pool(x.error, 0.0))


def pad(attributes, x: Bounded, pads: Bounded, fill: Bounded | None = None, axes=None) -> Bounded:
    if attributes.get("mode", "constant") != "constant" or axes is not None:
        raise UnboundedError("Pad in another mode than constant, or with axes")
    amounts = torch_pads(pads.value.tolist())
    value = 0.0 if fill is None else float(fill.value)
    return Bounded(F.pad(x.value, amounts, value=value), F.pad(x.error, amounts))


def concat(attributes: dict[str, Any], *parts: Bounded) -> Bounded:
    axis = attributes["axis"]
    return Bounded(
        torch.cat([part.value for part in parts], axis),
        torch.cat([part.error for part in parts], axis),
    )


def reshape(attributes: dict[str, Any], x: Bounded, shape: Bounded) -> Bounded:
    sizes = shape.value.tolist()
    if not attributes.get("allowzero", 0):
        sizes = [x.value.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return _moved(x, lambda data: data.reshape(sizes))


def flatten(attributes: dict[str, Any], x: Bounded) -> Bounded:
    axis = attributes.get("axis", 1) % (x.value.dim() + 1)
    rows = x.value.shape[:axis].numel()
    return _moved(x, lambda data: data.reshape(rows, -1))


def transpose(attributes: dict[str, Any], x: Bounded) -> Bounded:
    order = attributes.get("perm", list(reversed(range(x.value.dim()))))
    return _moved(x, lambda data: data.permute(order))


def squeeze(attributes: dict[str, Any], x: Bounded, axes: Bounded | None = None) -> Bounded:
    dims = attributes.get("axes") if axes is None else axes.value.tolist()
    if dims is None:
        return _moved(x, torch.squeeze)
    return _moved(x, lambda data: data.squeeze(tuple(dims)))


def unsqueeze(attributes: dict[str, Any], x: Bounded, axes: Bounded | None = None) -> Bounded:
    dims = attributes["axes"] if axes is None else axes.value.tolist()
    rank = x.value.dim() + len(dims)

    def insert(data: Tensor) -> Tensor:
        for dim in sorted(dim % rank for dim in dims):
            data = data.unsqueeze(dim)
        return data

    return _moved(x, insert)


def identity(attributes: dict[str, Any], x: Bounded, *unused: Bounded) -> Bounded:
    return x


def torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX: all beginnings, then all ends; torch: pairs, the last dimension first."""
    half = len(pads) // 2
    return [pads[i + side * half] for i in reversed(range(half)) for side in (0, 1)]


def require_explicit_padding(attributes: dict[str, Any]) -> None:
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise UnboundedError("automatic padding")


def _moved(x: Bounded, move: Callable[[Tensor], Tensor]) -> Bounded:
    return Bounded(move(x.value), move(x.error))


STEPS = {
    "Add": _arithmetic(torch.add, _of_sum),
    "Sub": _arithmetic(torch.sub, _of_sum),
    "Mul": _arithmetic(torch.mul, _of_product),
    "Div": _arithmetic(torch.div, _of_quotient),
    "Pow": power,
    "Sqrt": square_root,
    "Relu": relu,
    "Clip": clip,
    "Cast": cast,
    "MaxPool": max_pool,
    "Pad": pad,
    "Concat": concat,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Identity": identity,
    "Dropout": identity,
}
