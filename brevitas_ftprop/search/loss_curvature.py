"""The second derivative of the training's own loss by each unit's output."""

from __future__ import annotations

import torch
from torch import Tensor

from .recording import Node, NotRepeatableError, Value
from .replay import run
from .squared_backward import is_linear

# Each number of a row costs three backward passes through the layer.
WIDEST = 1024


def loss_curvature(nodes: list[Node], source: int, losses: list[Value], h: Tensor) -> Tensor:
    """``Σ_jk (∂z_j/∂h_i)·H_jk·(∂z_k/∂h_i)``, H the Hessian of each row's loss in its logits z.

    The logits are the narrowest tensor up to which everything is linear but for selections.

    Args:
        nodes: operators from the units to the loss, in their order.
        source: identity of the units' recorded value.
        losses: scalars that are the loss.
        h: output of the units.

    Returns:
        Shape of ``h``, in float32 at least.

    Raises:
        NotRepeatableError: if a row has more than 1024 logits.
    """
    total = torch.zeros_like(h, dtype=torch.promote_types(h.dtype, torch.float32))
    at, logits = _cut(nodes, source)
    h = h.detach().requires_grad_()
    z = _rerun(nodes[:at], source, h)[logits] if at else h
    if z.shape[:1] != h.shape[:1]:
        # Linear to the end, or mixed over the rows.
        return total
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        reached = _rerun(nodes[at:], logits, leaf)
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
        (hessian,) = torch.autograd.grad(
            slope, leaf, one, retain_graph=True, materialize_grads=True
        )
        sides = one, hessian
        if at:
            sides = (torch.autograd.grad(z, h, each, retain_graph=True)[0] for each in sides)
        left, right = (side.to(total.dtype) for side in sides)
        total += left * right
    return total


def _cut(nodes: list[Node], source: int) -> tuple[int, int]:
    """How many operators come before the logits, and the logits' identity."""
    best, depends, last = (0, source), {source}, {source: -1}
    for at, node in enumerate(nodes):
        last |= {ref.value: at for ref in node.refs if ref.value is not None}
    for at, node in enumerate(nodes):
        if not is_linear(node, depends):
            break
        depends |= {id(output) for output in node.outputs if output is not None}
        open_ = [each for each in depends if last.get(each, len(nodes)) > at]
        if len(open_) == 1:
            best = at + 1, open_[0]
    return best


def _rerun(nodes: list[Node], source: int, start: Tensor) -> dict[int, Tensor]:
    values = {source: start}
    with torch.enable_grad():
        for node in nodes:
            for output, result in zip(node.outputs, run(node, values), strict=True):
                if output is not None:
                    values[id(output)] = result
    return values
