"""Computing a loss again for rows of a batch of which some occur several times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .local_operators import pass_patch
from .patch import Patch, Tables
from .recording import Node, NotRepeatableError, Ref, Value
from .replay import is_pointwise, run, run_by_row
from .squared_backward import kind
from .values import Values

VIEWS = {"_unsafe_view", "expand", "reshape", "view"}
# Operands are laid over one another, but for numbers.
BROADCASTING = {"cat", "gather", "hardswish", "masked_fill", "prelu", "rsub", "where"}
# Losses whose weights are those of classes.
BY_CLASS = {"multi_margin_loss", "nll_loss2d_forward", "nll_loss_forward"}
# Each row of the result is of one row of the first operand, whatever the others are.
OF_THE_FIRST = {
    "_adaptive_avg_pool2d",
    "_log_softmax",
    "_softmax",
    "_to_copy",
    "addmm",
    "alias",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "argsort",
    "avg_pool2d",
    "batch_norm",
    "clone",
    "convolution",
    "cumsum",
    "linalg_vector_norm",
    "logsumexp",
    "max",
    "max_pool2d_with_indices",
    "mean",
    "min",
    "mm",
    "native_layer_norm",
    "select",
    "slice",
    "sort",
    "squeeze",
    "sum",
    "topk",
    "unsqueeze",
}


def losses_of_rows(
    nodes: list[Node],
    source: int,
    losses: list[Value],
    patch: Patch,
    values: Values,
    tables: Tables,
) -> Tensor:
    """Change of the training's own loss by each flip.

    As long as operators are local the flip's window is passed; from then on its whole row.

    Args:
        nodes: operators that lead to the loss.
        source: identity of the output's value.
        losses: scalars that are the loss.
        patch: the flips.
        values: tensors between as they are.
        tables: of tensors between.

    Raises:
        NotRepeatableError: for an operator of which it is not known that rows stay apart.
    """
    batch, patches, rows = patch.layout.shape[0], {source: patch}, {}
    whole = tables.made(("loss of all rows",), lambda: _all_rows(nodes, losses, values, batch))
    for node in nodes:
        read = [ref for ref in node.refs if ref.value in patches or ref.value in rows]
        below = patches.get(read[0].value) if len(read) == 1 else None  # pyright: ignore[reportArgumentType]
        output = node.only_output
        if below is not None and output is not None and not output.is_scalar:
            try:
                patches[id(output)] = pass_patch(node, read[0], below, values, tables)
            except NotRepeatableError:
                pass
            else:
                continue
        for ref in read:
            if ref.value not in rows:
                assert ref.value is not None
                rows[ref.value] = _whole(patches[ref.value], values[ref.value], tables)
        results = _run(_gathered(node, rows, patch.rows, batch), rows, len(patch.rows), batch)
        tables.takes(*(each for each in results if each.dim()), copies=2)
        rows |= {
            id(output): each for output, each in zip(node.outputs, results, strict=True) if output
        }
    changed = sum(rows[id(loss)] for loss in losses)
    return (changed - whole[patch.rows]).to(tables.dtype)


def _all_rows(nodes: list[Node], losses: list[Value], values: Values, batch: int) -> Tensor:
    known = values.by_row(nodes, batch)
    return torch.stack([known[id(loss)] for loss in losses]).sum(0)


def _is_scalar(node: Node) -> bool:
    return node.outputs[0] is not None and node.outputs[0].is_scalar


def _run(node: Node, rows: dict[int, Tensor], length: int, batch: int) -> list[Tensor]:
    if _is_scalar(node):
        return run_by_row(node, rows, length, batch=batch)
    return run(node, rows)


def _whole(patch: Patch, value: Tensor, tables: Tables) -> Tensor:
    """The rows of the batch that flips change, as they change them."""
    layout = patch.layout
    rows = value[patch.rows].to(tables.dtype)
    tables.takes(rows, copies=3)
    flat = rows.reshape(len(rows), layout.shape[1], -1).movedim(1, -1).reshape(len(rows), -1)
    flat = torch.nn.functional.pad(flat, (0, 1))
    channels = layout.shape[1]
    per_row = flat.shape[1] - 1
    place = torch.where(
        patch.outside, -1, torch.div(patch.index, layout.blocks, rounding_mode="floor")
    )
    within = place % (per_row // channels) * channels + patch.block[:, None] * layout.width
    at = within[:, :, None] + torch.arange(layout.width, device=place.device)
    at = torch.where(patch.outside[:, :, None], per_row, at)
    flat.scatter_add_(1, at.flatten(1), patch.change.flatten(1))
    rows = flat[:, :-1].reshape(len(rows), -1, channels).movedim(-1, 1)
    return rows.reshape(len(rows), *layout.actual[1:])


def _gathered(node: Node, rows: dict[int, Tensor], wanted: Tensor, batch: int) -> Node:
    """The operator on rows of its own: what it reads beside has the batch in front, or not."""
    name, packet = kind(node), node.func.overloadpacket
    if name in VIEWS:
        shape = list(node.args[1])
        if shape[0] != batch:
            raise NotRepeatableError(f"{packet} mixes the rows of the batch")
        return replace(node, args=(node.args[0], [len(wanted), *shape[1:]], *node.args[2:]))
    names = [argument.name for argument in node.func._schema.arguments]
    by_row = is_pointwise(node) or "reduction" in names or name in BROADCASTING
    if name in ("cat", "gather") and node.argument("dim") in (None, 0):
        raise NotRepeatableError(f"{packet} mixes the rows of the batch")
    if not by_row and name not in OF_THE_FIRST:
        raise NotRepeatableError(f"it is not known that {packet} keeps the rows of the batch apart")
    if not by_row:
        first = next(ref for ref in node.refs if ref.value in rows)
        if "dim" in names and not _is_scalar(node) and 0 in _dims(node, first):
            raise NotRepeatableError(f"{packet} mixes the rows of the batch")
        return node
    depth = max(len(ref.shape) for ref in node.refs if ref.value in rows)

    def gathered(each: Any) -> Any:
        if not isinstance(each, Ref) or each.value in rows:
            return each
        held = each.held()
        if name in BY_CLASS:
            in_front = held is not _held(node.argument("weight"))
        else:
            in_front = held.dim() >= max(depth, 1) and held.shape[0] == batch
        return Ref(None, held[wanted] if in_front else held, held.shape)

    args, kwargs = (tree_map(gathered, each) for each in (node.args, node.kwargs))
    return replace(node, args=args, kwargs=kwargs)


def _dims(node: Node, ref: Ref) -> list[int]:
    """The dimensions that an operator works along; the first where it works along all."""
    given, count = node.argument("dim"), len(ref.shape) + (node.name == "unsqueeze")
    given = [given] if isinstance(given, int) else given or [0]
    return [dim % count for dim in given]


def _held(each: Any) -> Tensor | None:
    return each.held() if isinstance(each, Ref) else None
