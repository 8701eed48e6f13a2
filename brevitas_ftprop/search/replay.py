"""Computing recorded operators again, for other values of a quantizer's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .recording import BATCH_NORMS, DROPOUTS, Node, NotRepeatableError, Opaque, Ref, with_leaves

aten = torch.ops.aten
# What is linear in a loss, so that it can be computed of each row's share.
LINEAR = {
    aten.mul,
    aten.div,
    aten.neg,
    aten.add,
    aten.sub,
    aten._to_copy,
    aten.alias,
    aten.clone,
}
SUMS = {aten.sum, aten.mean}
# Of a loss, as torch numbers them.
NONE, MEAN = 0, 1


def is_pointwise(node: Node) -> bool:
    """Whether each number that an operator gives depends on those at its own place alone."""
    # The first is not said to be by torch 2.6, the second by none.
    untagged = ("leaky_relu", "hardswish")
    return torch.Tag.pointwise in node.func.tags or node.name in untagged


def why_not_again(node: Node) -> str | None:
    """Why an operator does not give again what it gave, None if it does."""
    packet = node.func.overloadpacket
    # Attention may draw, and does not without dropout.
    draws = torch.Tag.nondeterministic_seeded in node.func.tags and node.argument("dropout_p") != 0
    if packet not in DROPOUTS and draws:
        return f"{packet} draws random numbers"
    return None


def run(node: Node, values: dict[int, Tensor], *, live: bool = False) -> list[Any]:
    """What an operator gives for other values.

    Batch statistics and dropout masks are those of the recorded pass, so that a row of a batch
    depends on itself alone.

    Args:
        node: what is computed again.
        values: of what it reads, by identity; the rest is as it was.
        live: whether batch statistics are those of the values, as autograd has it.

    Returns:
        A tensor for each of the node's outputs.

    Raises:
        NotRepeatableError: if a tensor that it read has been overwritten in place, or it fails for
            other values.
    """
    packet = node.func.overloadpacket
    if packet in BATCH_NORMS:
        return [_batch_norm(node, values, live=live)]
    if isinstance(packet, Opaque):
        return [packet(filled(node.args[0], values))]
    if packet in DROPOUTS:
        mask, share = node.extras[0], node.argument("p")
        return [filled(node.argument("input"), values) * mask / (1 - share)]
    args, kwargs = _all_filled(node.args, values), _all_filled(node.kwargs, values)
    if node.written:
        args = [each.clone() if at in node.written else each for at, each in enumerate(args)]
    with torch.set_grad_enabled(torch.is_grad_enabled() and not node.is_choice):
        result = _given(node, args, kwargs)
    if node.written:
        return [args[position] for position in node.written]
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    return results[: len(node.outputs)]


def _given(node: Node, args: Any, kwargs: dict[str, Any]) -> Any:
    try:
        return node.func(*args, **kwargs)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        # Of shapes that depend on values, as where rows are picked by a mask.
        reason = str(error).strip().partition("\n")[0]
        raise NotRepeatableError(
            f"{node.func.overloadpacket} cannot be computed for other values: {reason}"
        ) from error


def run_by_row(
    node: Node, values: dict[int, Tensor], rows: int, *, batch: int | None = None
) -> list[Any]:
    """Each row's share of a scalar, whose sum over the rows the operator gives.

    Args:
        node: one with a scalar result; scalars that it reads stand in ``values`` as shares too.
        values: of what it reads, by identity.
        rows: length of what is computed.
        batch: length of the recorded batch, where it is another one.

    Returns:
        One tensor of shape (rows,).

    Raises:
        NotRepeatableError: for an operator that is not known to be a sum over rows.
    """
    packet, batch = node.func.overloadpacket, batch or rows
    names = [argument.name for argument in node.func._schema.arguments]
    if "reduction" in names:
        return [_unreduced(node, values, rows, batch)]
    if packet in SUMS:
        x = filled(node.args[0], values)
        if x.shape[:1] != (rows,):
            raise NotRepeatableError("the loss is no sum over the batch's rows")
        total = x.flatten(1).sum(1) if x.dim() > 1 else x
        return [total / (x.numel() // rows * batch) if packet is aten.mean else total]
    shares = [isinstance(each, Ref) and each.value in values for each in node.args]
    # Neither a product of two losses nor a quotient by one is a sum.
    is_curved = (packet is aten.mul and all(shares)) or (packet is aten.div and shares[1])
    if packet not in LINEAR or is_curved:
        raise NotRepeatableError(f"the loss passes {packet}, and is no sum over the batch's rows")
    args = node.args
    if packet in (aten.add, aten.sub):
        # What is no row's own is each row's in equal shares.
        args = [
            each if isinstance(each, Ref) and each.value in values else filled(each, {}) / batch
            for each in args
        ]
    args, kwargs = _all_filled(args, values), _all_filled(node.kwargs, values)
    return [node.func(*args, **kwargs)]


def batch_norm_affine(node: Node) -> tuple[Tensor, Tensor]:
    """Factor and offset of each channel of a recorded batch norm, its statistics held fixed."""
    weight, bias = (filled(node.argument(name), {}) for name in ("weight", "bias"))
    mean, inverse = _statistics(node)
    factor = inverse if weight is None else inverse * weight
    offset = -mean * factor
    return factor, offset if bias is None else offset + bias


def _batch_norm(node: Node, values: dict[int, Tensor], *, live: bool) -> Tensor:
    x = filled(node.argument("input"), values)
    if live and _is_training(node):
        weight, bias = (filled(node.argument(name), values) for name in ("weight", "bias"))
        return functional.batch_norm(x, None, None, weight, bias, True, 0.0, _eps(node))
    shape = (1, -1, *(1,) * (x.dim() - 2))
    factor, offset = batch_norm_affine(node)
    return torch.addcmul(offset.view(shape), x, factor.view(shape)).to(x.dtype)


def _is_training(node: Node) -> bool:
    training = node.argument("training")
    return node.func.overloadpacket is aten._batch_norm_with_update or bool(training)


def _statistics(node: Node) -> tuple[Tensor, Tensor]:
    if _is_training(node):
        return node.extras[0], node.extras[1]
    mean, variance = (filled(node.argument(f"running_{name}"), {}) for name in ("mean", "var"))
    return mean, torch.rsqrt(variance + _eps(node))


def _eps(node: Node) -> float:
    eps = node.argument("eps")
    return node.argument("epsilon") if eps is None else eps


def _unreduced(node: Node, values: dict[int, Tensor], rows: int, batch: int) -> Tensor:
    arguments = node.func._schema.arguments
    positions = {argument.name: at for at, argument in enumerate(arguments)}
    given = [node.argument(argument.name) for argument in arguments]
    reduction, given[positions["reduction"]] = given[positions["reduction"]], NONE
    # Left out at the end, they have defaults that are not None.
    given = given[: max(len(node.args), positions["reduction"] + 1)]
    each = _first(node.func(*_all_filled(given, values)))
    if each.shape[:1] != (rows,):
        raise NotRepeatableError("the loss is no sum over the batch's rows")
    total = each.flatten(1).sum(1) if each.dim() > 1 else each
    # Left out, it is the mean.
    if reduction in (None, MEAN):
        # Cross-entropy divides by the weights of its classes.
        total = total / (node.extras[0] if node.extras else each.numel() // rows * batch)
    return total


def _all_filled(given: Any, values: dict[int, Tensor]) -> Any:
    return with_leaves(lambda each: filled(each, values), given)


def filled(each: Any, values: dict[int, Tensor]) -> Any:
    """What an operator reads: a value where there is one for it, or what was held of it."""
    if not isinstance(each, Ref):
        return each
    value = None if each.value is None else values.get(each.value)
    return each.held() if value is None else value


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result
