"""The second derivative of the training's own loss by each unit's output."""

from __future__ import annotations

import torch
from torch import Tensor

from .recording import Node, NotRepeatableError, Value
from .replay import run
from .squared_backward import is_linear
from .values import Values

# Each number of a row costs three backward passes through the layer.
WIDEST = 1024


def loss_curvature(nodes: list[Node], source: int, losses: list[Value], values: Values) -> Tensor:
    """``Σ_jk (∂z_j/∂h_i)·H_jk·(∂z_k/∂h_i)``, H the Hessian of each row's loss in its logits z.

    The logits are the last tensor up to which everything is linear but for selections, each row of
    the batch's own row.

    Args:
        nodes: operators from the units to the loss, in their order.
        source: identity of the units' recorded value.
        losses: scalars that are the loss.
        values: tensors between, the units' output among them.

    Returns:
        Shape of the output, in float32 at least.

    Raises:
        NotRepeatableError: if a row has more than 1024 logits, or torch has no second derivative of
            what makes the loss of them.
    """
    h = values[source]
    total = torch.zeros_like(h, dtype=torch.promote_types(h.dtype, torch.float32))
    chosen = {
        ref.value: values[ref.value]
        for node in nodes
        for ref in node.refs
        if ref.value is not None and values.is_choice(ref.value)
    }
    cuts = _cuts(nodes, source)
    if cuts[-1][0] == len(nodes):
        # To the end.
        return total
    h = h.detach().requires_grad_()
    linear = nodes[: cuts[-1][0]]
    other = torch.cat([-h[:1], h[1:]]).detach()
    again, apart = (_rerun(linear, {**chosen, source: each}) for each in (h, other))
    # The last tensor in which the batch is in front, each row of its own.
    at, logits, z = next(
        (at, key, again[key])
        for at, key in reversed(cuts)
        if again[key].shape[:1] == h.shape[:1] and torch.allclose(again[key][1:], apart[key][1:])
    )
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        reached = _rerun(nodes[at:], {**chosen, logits: leaf})
        loss = torch.stack([reached[id(each)].double() for each in losses]).sum()
        (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
    if not slope.requires_grad:
        return total
    width = leaf[0].numel()
    if width > WIDEST:
        packet = nodes[at].func.overloadpacket
        raise NotRepeatableError(
            f"{packet} is not linear in {width} numbers of each row, and at most {WIDEST} are "
            "differentiated twice"
        )
    for column in range(width):
        one = torch.zeros_like(leaf)
        one.view(len(one), -1)[:, column] = 1
        try:
            (hessian,) = torch.autograd.grad(
                slope, leaf, one, retain_graph=True, materialize_grads=True
            )
        except (NotImplementedError, RuntimeError) as error:
            names = ", ".join(str(node.func.overloadpacket) for node in nodes[at:])
            raise NotRepeatableError(f"torch has no second derivative of {names}") from error
        sides = one, hessian
        if at:
            sides = (torch.autograd.grad(z, h, each, retain_graph=True)[0] for each in sides)
        left, right = (side.to(total.dtype) for side in sides)
        total += left * right
    return total


def _cuts(nodes: list[Node], source: int) -> list[tuple[int, int]]:
    """Where all that depends on the units passes one tensor, and is linear up to there: how many
    operators come before, and the tensor's identity.
    """
    found, depends, last = [(0, source)], {source}, {source: -1}
    for at, node in enumerate(nodes):
        last |= {ref.value: at for ref in node.refs if ref.value is not None}
    for at, node in enumerate(nodes):
        if not is_linear(node, depends):
            break
        depends |= {id(output) for output in node.outputs if output is not None}
        open_ = [each for each in depends if last.get(each, len(nodes)) > at]
        if len(open_) == 1:
            found.append((at + 1, open_[0]))
    return found


def _rerun(nodes: list[Node], values: dict[int, Tensor]) -> dict[int, Tensor]:
    with torch.enable_grad():
        for node in nodes:
            for output, result in zip(node.outputs, run(node, values), strict=True):
                if output is not None:
                    values[id(output)] = result
    return values
