"""How recorded operators pass what a single flip changes, in the window that it reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .local_windows import Reach
from .patch import Layout, Patch, Tables
from .recording import Node, NotRepeatableError, Ref
from .replay import batch_norm_affine, is_pointwise, run
from .squared_backward import averaged, kind
from .values import Values

SAME = {"_to_copy", "alias", "clone", "detach"}
VIEWS = {"_unsafe_view", "flatten", "reshape", "squeeze", "unsqueeze", "view"}


def pass_patch(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    """What an operator makes of a patch of one of its operands.

    Args:
        node: the operator.
        ref: the operand, which is the only one that the flips change.
        patch: how the flips change it.
        values: tensors as they are without flips.
        tables: of tensors between.

    Raises:
        NotRepeatableError: for an operator whose outputs are not known to be local.
    """
    name, output = kind(node), node.only_output
    if output is None or not output.dtype.is_floating_point:
        raise _refusal(node)
    if name in SAME:
        return patch
    if name in VIEWS:
        return _view(node, ref, patch)
    if name in TABLE and (name not in FIRST_ONLY or ref is node.args[0]):
        return TABLE[name](node, ref, patch, values, tables)
    others = [each for each in node.refs if each is not ref]
    if is_pointwise(node) and not others:
        return _pointwise(node, ref, patch, values, tables)
    raise _refusal(node)


def _refusal(node: Node) -> NotRepeatableError:
    packet = node.func.overloadpacket
    return NotRepeatableError(f"what {packet} makes of a single flip is not known to be local")


def _view(node: Node, ref: Ref, patch: Patch) -> Patch:
    actual, layout = node.shape, patch.layout
    if actual[:1] != layout.shape[:1]:
        raise NotRepeatableError(f"{node.func.overloadpacket} mixes the rows of the batch")
    if patch.unscaled[0].numel() > 1:
        # Seen as before, until an operator needs to know of the new shape.
        return replace(patch, layout=replace(layout, actual=actual))
    return at_places(patch, patch.place()[:, 0], actual)


def at_places(patch: Patch, flat: Tensor, actual: tuple[int, ...]) -> Patch:
    """A patch of one number, by its place in a row of a value of some shape."""
    shape = actual if len(actual) > 1 else (*actual, 1)
    places, origin = shape[2:], []
    for size in reversed(places):
        origin.insert(0, flat % size)
        flat = flat // size
    layout = Layout(actual, shape, shape[1])
    return Patch(layout, patch.rows, flat, tuple(origin), (1,) * len(places), patch.change)


def _check_shape(node: Node, patch: Patch) -> None:
    if patch.layout.actual != patch.layout.shape:
        raise _refusal(node)


def _unchanged(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    # The factor is the second operand's, whose place "rsub" takes for its first.
    is_scaled = (ref is node.args[0]) == (node.name == "rsub")
    factor = node.kwargs.get("alpha", 1) if is_scaled else 1
    factor = -factor if is_scaled and node.name != "add" else factor
    _check_not_broadcast(node, ref)
    return patch if factor == 1 else patch.times(torch.tensor(factor, dtype=tables.dtype))


def _check_not_broadcast(node: Node, ref: Ref) -> None:
    if node.shape != tuple(ref.shape):
        raise _refusal(node)


def _negative(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    return patch.times(torch.tensor(-1, dtype=tables.dtype))


def _scaled(patch: Patch, key: tuple, factor: Callable[[], Tensor], tables: Tables) -> Patch:
    tables.takes(patch.unscaled, copies=3)
    return patch.times(tables.look(key, patch, factor))


def _multiple(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    other: Any = node.args[1] if ref is node.args[0] else node.args[0]
    if node.kwargs.get("rounding_mode") is not None:
        raise _refusal(node)
    _check_not_broadcast(node, ref)

    def factor() -> Tensor:
        by = other.held() if isinstance(other, Ref) else torch.tensor(other)
        return (1 / by if node.name == "div" else by).to(tables.dtype)

    return _scaled(patch, (node.order,), factor, tables)


def _batch_norm(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    def factor() -> Tensor:
        return batch_norm_affine(node)[0].view(1, -1, *(1,) * (len(ref.shape) - 2))

    return _scaled(patch, (node.order,), factor, tables)


def _dropout(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    def factor() -> Tensor:
        return node.extras[0] / (1 - node.argument("p"))

    return _scaled(patch, (node.order,), factor, tables)


def _pointwise(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    assert ref.value is not None
    key = ref.value
    before = tables.look((key,), patch, lambda: values[key])
    results = [run(node, {key: each})[0] for each in (before + patch.change, before)]
    tables.takes(patch.change, copies=6)
    change = (results[0] - results[1]).masked_fill_(patch.outside[:, :, None], 0)
    return replace(patch, unscaled=change, factor=None)


def _convolution(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    _, weight, _, stride, padding, dilation, transposed, _, groups = node.args
    if patch.layout.width != 1 or transposed:
        raise _refusal(node)
    _check_shape(node, patch)
    kernel = tuple(weight.shape[2:])
    reach = Reach(patch.window, kernel, tuple(stride), tuple(padding), tuple(dilation))
    shape, channels = node.shape, patch.layout.shape[1]
    places, width = math.prod(reach.outputs), shape[1] // groups
    columns = tables.made(
        (node.order, reach), lambda: _columns(weight.held(), reach, groups, tables.dtype)
    )
    origin, phase = reach.of(patch)
    wanted, change = phase * channels + patch.block, None
    for each, column in enumerate(columns):
        more = column.index_select(0, wanted).view(-1, places, width)
        more.mul_(patch.change[:, each, None])
        change = more if change is None else change.add_(more)
    assert change is not None
    tables.takes(change, copies=min(len(columns), 2) + 1)
    layout = Layout(shape, shape, groups)
    block = torch.div(patch.block, channels // groups, rounding_mode="floor")
    return Patch(layout, patch.rows, block, origin, reach.outputs, change)


def _columns(weight: Tensor, reach: Reach, groups: int, dtype: torch.dtype) -> list[Tensor]:
    """For each place of the window, what an input channel adds to the outputs, by its phase."""
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    by_tap = weight.to(dtype).reshape(groups, outputs, inputs, -1).permute(3, 0, 2, 1)
    by_tap = torch.cat([by_tap, torch.zeros_like(by_tap[:1])])
    taps = reach.taps().to(weight.device)
    return [
        # (phase, output, group, input, channel) → a row for each phase and input channel.
        by_tap[taps[:, each]].movedim(1, 3).reshape(len(taps) * groups * inputs, -1)
        for each in range(taps.shape[1])
    ]


def _product(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    *_, left, right = node.args
    if ref is not left or patch.layout.width != 1:
        raise _refusal(node)
    weight = tables.made((node.order,), lambda: right.held().to(tables.dtype).contiguous())
    factor = node.kwargs.get("alpha", 1)
    places, change = patch.place(), None
    for each in range(places.shape[1]):
        more = weight.index_select(0, places[:, each]) * (patch.change[:, each] * factor)
        change = more if change is None else change.add_(more)
    assert change is not None
    tables.takes(change, copies=3)
    shape = (patch.layout.shape[0], weight.shape[1])
    return Patch(
        Layout(shape, shape, 1), patch.rows, torch.zeros_like(patch.rows), (), (), change[:, None]
    )


def _pool(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    kernel = tuple(node.argument("kernel_size"))
    stride = tuple(node.argument("stride") or kernel)
    padding, dilation = (
        tuple(node.argument(each) or (default,) * len(kernel))
        for each, default in (("padding", 0), ("dilation", 1))
    )
    return _pooled(
        node, ref, patch, Reach(patch.window, kernel, stride, padding, dilation), values, tables
    )


def _pooled(
    node: Node, ref: Ref, patch: Patch, reach: Reach, values: Values, tables: Tables
) -> Patch:
    _check_shape(node, patch)
    if any(step > span + 1 for step, span in zip(reach.stride, reach.spans, strict=True)):
        raise NotRepeatableError(f"{node.func.overloadpacket} leaves out inputs")
    shape, width, flips = node.shape, patch.layout.width, len(patch.rows)
    origin, phase = reach.of(patch)
    layout = Layout(shape, shape, patch.layout.blocks * shape[1] // patch.layout.shape[1])
    pooled = Patch(layout, patch.rows, patch.block, origin, reach.outputs, patch.change)
    is_mean = kind(node) in ("avg_pool2d", "_adaptive_avg_pool2d")
    # Beside a map nothing is added up; for a largest value, what stands there is −inf.
    change = _inside(patch) if is_mean else patch.change
    pasted = tables.made((node.order, reach), lambda: reach.pasted().to(phase.device))
    padded = torch.nn.functional.pad(change, (0, 0, 0, 1))
    first = torch.arange(flips, device=phase.device)[:, None] * padded.shape[1]
    at = (pasted[phase] + first).flatten()
    changes = padded.flatten(0, 1).index_select(0, at).view(flips, *reach.inputs, width)
    tables.takes(changes, copies=4)
    if is_mean:
        total = torch.stack([*reach.kernels(changes)]).sum(0).flatten(1, -2)
        divisor = averaged(node, ref)
        count = torch.as_tensor(divisor, dtype=tables.dtype, device=total.device)
        change = total / tables.look((node.order, "count"), pooled, lambda: count, outside=1.0)
    else:
        assert ref.value is not None
        key, lowest = ref.value, -math.inf
        index = patch.layout.index(
            patch.rows, patch.block, reach.inputs_origin(origin), reach.inputs
        )
        before = tables.look(
            (key, "pool"), patch, lambda: values[key], outside=lowest, index=index
        ).view(changes.shape)
        most = _largest(reach.kernels(before.add_(changes))).flatten(1, -2)
        # No other than the largest of what stands there now, to the last place.
        change = most.sub_(tables.look((node.order, "out"), pooled, lambda: run(node, values)[0]))
    change.masked_fill_(pooled.outside[:, :, None], 0)
    return replace(pooled, unscaled=change)


def _inside(patch: Patch) -> Tensor:
    """The change, without that of places that are none of the value."""
    return patch.change.masked_fill(patch.outside[:, :, None], 0)


def _largest(views: list[Tensor]) -> Tensor:
    most = views[0].clone()
    for each in views[1:]:
        torch.maximum(most, each, out=most)
    return most


def _adaptive(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    sizes, counts = ref.shape[-2:], node.args[1]
    if any(size % count for size, count in zip(sizes, counts, strict=True)):
        raise _refusal(node)
    kernel = tuple(size // count for size, count in zip(sizes, counts, strict=True))
    reach = Reach(patch.window, kernel, kernel, (0, 0), (1, 1))
    return _pooled(node, ref, patch, reach, values, tables)


def _over_places(node: Node, ref: Ref, patch: Patch, values: Values, tables: Tables) -> Patch:
    """A sum or mean over all places of a row."""
    _check_shape(node, patch)
    dims, given = len(ref.shape), node.argument("dim")
    if given is None or sorted(dim % dims for dim in given) != list(range(2, dims)):
        raise _refusal(node)
    change = _inside(patch).sum(1, keepdim=True)
    if node.name == "mean":
        change = change / math.prod(ref.shape[2:])
    actual, channels = node.shape, ref.shape[1]
    shape = (ref.shape[0], channels, *(1,) * (len(actual) - 2))
    origin = tuple(torch.zeros_like(patch.rows) for _ in shape[2:])
    layout = Layout(actual, shape, patch.layout.blocks)
    return Patch(layout, patch.rows, patch.block, origin, (1,) * len(origin), change)


Passing = Callable[[Node, Ref, Patch, Values, Tables], Patch]
# Where the flips have to be those of the first operand.
FIRST_ONLY = {"batch_norm", "convolution", "div", "dropout"}
TABLE: dict[str, Passing] = {
    "_adaptive_avg_pool2d": _adaptive,
    "add": _unchanged,
    "addmm": _product,
    "avg_pool2d": _pool,
    "batch_norm": _batch_norm,
    "convolution": _convolution,
    "div": _multiple,
    "dropout": _dropout,
    "max_pool2d_with_indices": _pool,
    "max_pool3d_with_indices": _pool,
    "mean": _over_places,
    "mm": _product,
    "mul": _multiple,
    "neg": _negative,
    "rsub": _unchanged,
    "sub": _unchanged,
    "sum": _over_places,
}
