"""The exact change of the loss above by single flips."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gathered_rows import losses_of_rows
from .local_operators import at_places, pass_patch
from .patch import Layout, Patch, Tables
from .recording import Node, NotRepeatableError, Value
from .unit_call import UnitCall
from .values import Values


def flip_changes(
    source: int,
    readers: list[tuple[UnitCall, Value]],
    to_readers: list[Node],
    losses: list[Value],
    to_losses: list[Node],
    values: Values,
    units: Tensor,
    memory: int,
) -> Tensor:
    """Change of the loss above by each of some flips, as if it were the only one.

    Args:
        source: identity of the output's value.
        readers: next quantizers, with the values that they read.
        to_readers: operators that lead there, in their order.
        losses: scalars that are the training's own loss.
        to_losses: operators that lead there.
        values: tensors between as they are, the output among them.
        units: indices into the flattened output.
        memory: bytes that the temporaries of one chunk may take.

    Raises:
        NotRepeatableError: for what cannot be computed flip by flip; the sentence says what.
        ValueError: if one flip takes more memory.
    """
    h = values[source]
    tables = Tables(torch.promote_types(h.dtype, torch.float32))
    found = torch.zeros(len(units), dtype=tables.dtype, device=h.device)

    def changes(chunk: Tensor) -> Tensor:
        patch, total = _flipped(h, chunk, tables.dtype), 0.0
        patches = _passed(to_readers, source, patch, values, tables)
        for call, value in readers:
            total = total + _loss_change(call, id(value), patches[id(value)], values, tables)
        if losses:
            total = total + losses_of_rows(to_losses, source, losses, patch, values, tables)
        assert isinstance(total, Tensor)
        return total

    if not len(units):
        return found
    found[:1] = changes(units[:1])
    if tables.largest > memory:
        raise ValueError(
            f"a single flip takes {tables.largest} bytes of temporaries, and only {memory} are "
            f"granted: exact_flip(memory={math.ceil(tables.largest / 2**20)}) would do"
        )
    chunk = memory // max(tables.largest, 1)
    for start in range(1, len(units), chunk):
        found[start : start + chunk] = changes(units[start : start + chunk])
    return found


def _flipped(h: Tensor, units: Tensor, dtype: torch.dtype) -> Patch:
    change = (-2 * h.flatten()[units]).to(dtype)[:, None, None]
    size = h[0].numel()
    shape = tuple(h.shape)
    layout = Layout(shape, shape, 1)
    patch = Patch(layout, units // size, units, (), (), change)
    return at_places(patch, units % size, shape)


def _passed(
    nodes: list[Node], source: int, patch: Patch, values: Values, tables: Tables
) -> dict[int, Patch]:
    patches = {source: patch}
    for node in nodes:
        read = [ref for ref in node.refs if ref.value in patches]
        if len(read) > 1:
            packet = node.func.overloadpacket
            raise NotRepeatableError(f"two ways from a unit meet at {packet}")
        output = node.only_output
        if output is None:
            raise NotRepeatableError(f"{node.func.overloadpacket} has several results")
        below = read[0].value
        assert below is not None
        patches[id(output)] = pass_patch(node, read[0], patches[below], values, tables)
    return patches


def _loss_change(
    call: UnitCall, key: int, patch: Patch, values: Values, tables: Tables
) -> Tensor | float:
    tensors = tables.made((id(call), "tensors"), lambda: call.tensors())
    if tensors is None:
        return 0.0
    grad = tables.look((id(call), "grad"), patch, lambda: tensors[0])
    # Outside, where the gradient is 0, a scale must not be.
    others = [
        tables.look((id(call), each), patch, lambda each=each: tensors[each], outside=1.0)
        for each in range(1, len(tensors))
    ]
    before = tables.look((key,), patch, lambda: values[key])
    ell = tables.made((id(call), "loss"), lambda: call.losses(values[key]))
    change = call.losses_of(patch.added_to(before), grad, *others)
    tables.takes(patch.unscaled, copies=8)
    return change.sub_(tables.look((id(call), "loss"), patch, lambda: ell)).sum((1, 2))
