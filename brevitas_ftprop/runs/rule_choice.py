"""The rules that a recipe gives a network's quantizers."""

from __future__ import annotations

from torch.nn import Module

from ..convert import restore_quantizers, swap_quantizers

STOCK = "stock"


def follow_rules(
    network: Module,
    reference: str,
    *,
    rule: str,
    weight_rule: str | None = None,
    weighting: str = "grad",
    staircase: str = "single",
    saved: str = "exact",
) -> int:
    """Convert the quantizers of a network, in place, as a recipe says.

    Args:
        network: as it was built.
        reference: names it in messages.
        rule: of the activation quantizers, or ``stock`` for Brevitas' gradients.
        weight_rule: of the weight quantizers; None leaves them as the model has them.
        weighting, staircase, saved: see ``swap_quantizers``.

    Returns:
        How many follow the rules.

    Raises:
        TypeError, ValueError: for rules that its quantizers do not take.
    """
    if rule == STOCK:
        if weight_rule is not None:
            raise ValueError("weight_rule does not go with rule: stock, which converts nothing")
        restore_quantizers(network)
        return 0
    report = swap_quantizers(network, rule, weighting=weighting, staircase=staircase, saved=saved)
    converted = len(report.changed)
    if not converted:
        raise ValueError(
            f"{reference} has no activation quantizers for rule {rule}: choose another act, or "
            "rule: stock"
        )
    if weight_rule is not None:
        report = swap_quantizers(
            network, weight_rule, activations=False, weights=True, staircase=staircase, saved=saved
        )
        converted += len(report.changed)
    return converted
