"""FTPROP-MB as the paper writes it: each layer's own convex problem, solved for several steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .held_inputs import HeldInputs


def train_layerwise(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    inner_steps: int = 1,
) -> float:
    """Train on one mini-batch: targets for all layers, then ``inner_steps`` on each layer's loss.

    One forward and backward pass gives each layer its inputs h and its units' targets t and weights
    w, those of the search inside :func:`search_targets`. Layer d then minimises
    ``Σ_j w_j·ℓ(t_j·z_j(W_d; h_{d−1}))`` for ``inner_steps`` steps of the optimizer, inputs and
    targets held fixed, and the last one the loss itself. No layer's problem holds another's
    weights, so all of them are stepped at once. With one step the parameters are those of
    ``loss.backward(); optimizer.step()`` bit for bit.

    Args:
        model: with Brevitas activation quantizers.
        loss: computes the loss on the mini-batch, as a rule ``lambda: loss(model(x), y)``. It is
            called once for each step, always with the same random numbers; statistics of the model
            advance once.
        optimizer: of the model's parameters. ``torch.optim.LBFGS`` is given the sum of the layers'
            losses, which is convex in the weights of linear layers for a convex ℓ; learned scales
            stay.
        inner_steps: at least 1.

    Returns:
        The loss before the steps.

    Raises:
        ValueError: for ``inner_steps`` below 1, a model without activation quantizers, or a loss
            that does not depend on them or is not finite; weights and optimizer are then as before.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst as Sign
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(2, 8), QuantIdentity(act_quant=Sign), nn.Linear(8, 1))
    >>> x = torch.randn(16, 2)
    >>> y = x.prod(1, keepdim=True).sign()
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    >>> losses = [
    ...     train_layerwise(model, lambda: (model(x) - y).square().mean(), optimizer, inner_steps=4)
    ...     for _ in range(20)
    ... ]
    >>> losses[-1] < losses[0] / 2
    True

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 3.2 (FTPROP-MB).
    """
    if isinstance(inner_steps, bool) or not isinstance(inner_steps, int) or inner_steps < 1:
        raise ValueError(f"inner_steps must be a positive integer, not {inner_steps!r}")
    held = HeldInputs(model, loss)
    optimizer.zero_grad()
    value = held.keep()
    value.backward()
    if isinstance(optimizer, torch.optim.LBFGS):
        for _ in range(inner_steps):
            optimizer.step(lambda: _total(held, optimizer))
    else:
        optimizer.step()
        for _ in range(inner_steps - 1):
            optimizer.zero_grad()
            held.differentiate()
            optimizer.step()
    return float(value.detach())


def _total(held: HeldInputs, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad()
    with held.cut() as value:
        total = value + sum(call.loss() for call in held.reached)
        total.backward()
    return total.detach()
