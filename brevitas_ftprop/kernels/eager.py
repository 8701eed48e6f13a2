"""The meaning of a target rule's gradient, in plain torch."""

import torch
from torch import Tensor

from ..rules import Rule, saturate
from ..targets import sign_target, weighted_sign

STAIRCASE_FORMS = ("single", "sum")


def unit_gradient(grad: Tensor, z: Tensor, rule: Rule, weighting: str) -> Tensor:
    """Gradient that a sign unit passes to its pre-activation, ``w·t·l'(t·z)``.

    With ``weighting="grad"`` this is ``g·s(t·z)``, s = -l' being the rule's slope.

    Args:
        grad: ∂L/∂h of the unit's output, any shape.
        z: pre-activation in units of the output scale, same shape.
        rule: the target rule.
        weighting: ``"grad"`` or ``"mean"``.

    >>> from brevitas_ftprop.rules import get_rule
    >>> g = torch.tensor([1.0, -1.0])
    >>> unit_gradient(g, torch.tensor([2.0, 2.0]), get_rule("hinge"), "grad")
    tensor([1., -0.])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, algorithm 1.
    """
    # A pre-activation that its scale took beyond the dtype must not meet a target of 0 as inf.
    margin = z if rule.even else saturate(z) * sign_target(grad)
    # In this order the result has the memory layout of z, as stock Brevitas' has, so that sums over
    # it add up in the same order.
    return rule.slope(margin) * weighted_sign(grad, weighting)


def clip_margin(u: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Pre-activation of the one unit that spans a staircase's whole range, |u| ≤ 1 inside it.

    Whether a unit is outside is settled by the forward pass's own comparison or rounding, not
    by the float errors of the formula for ``u`` (which would, for one, misplace rounding ties).

    Args:
        u: the formula's value, any shape.
        below, above: where the staircase clips, bool, same shape.

    >>> below, above = torch.tensor([True, False, False]), torch.tensor([False, False, True])
    >>> clip_margin(torch.tensor([-1.0, 0.2, 3.0]), below, above)
    tensor([-1.0000,  0.2000,  3.0000])
    >>> bool(_[0] < -1)
    True
    """
    just_outside = 1 + torch.finfo(u.dtype).eps
    inside = torch.where(above, u.clamp(min=just_outside), u.clamp(-1, 1))
    return torch.where(below, u.clamp(max=-just_outside), inside)


def staircase_gradient(
    grad: Tensor, v: Tensor, thresholds: list[float], step: float, rule: Rule, weighting: str
) -> Tensor:
    """Gradient of a staircase as the sum of its steps, ``step·Σ_k w·t·l'(t·(v - θ_k))``.

    Args:
        grad: ∂L/∂h of the staircase's output.
        v: its pre-activation, in the units of the thresholds.
        thresholds: the θ_k.
        step: share of the output that one step contributes (a step of height 1 is half a
            sign unit: ½).

    >>> from brevitas_ftprop.rules import get_rule
    >>> v = torch.tensor([0.0, 1.0, 9.0])
    >>> staircase_gradient(torch.ones(3), v, [0.5, 1.5], 0.5, get_rule("saturated_ste"), "grad")
    tensor([0.5000, 1.0000, 0.0000])

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4 (quantized activations).
    """
    # One threshold at a time: memory must not grow with the number of levels.
    total = torch.zeros_like(v)
    for threshold in thresholds:
        total += unit_gradient(grad, v - threshold, rule, weighting)
    return saturate(total) * step
