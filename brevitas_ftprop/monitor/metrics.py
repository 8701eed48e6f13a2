"""The metrics of a quantizer from samples of its units and their gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..targets import sign_target
from .watch import WatchedCall

# What each metric is called, and what it says.
METRICS = {
    "at_target": "share of units whose output is at their target",
    "dead": "share of units with slope 0",
    "with_target": "share of units with a target",
    "output_flips": "share of outputs that changed sign",
    "target_flips": "share of targets that changed sign",
    "grad_in": "norm of the gradient that enters",
    "grad_out": "norm of the gradient that leaves",
    "estimating_error": "distance between quantizer and estimator",
    "gradient_instability": "variance of the leaving gradient's size",
}
_FROM_SAMPLE = tuple(name for name in METRICS if not name.endswith("flips"))

# The first and last bin of the histogram are open.
MARGIN_EDGES = tuple(k / 4 for k in range(-8, 9))


def summarize(calls: Sequence[WatchedCall], loss_scale: float) -> Tensor:
    """All metrics but the flips, as one tensor, so that reading them waits for the device once."""
    parts = [_pooled(call, loss_scale) for call in calls]
    margin, target, slope, entering, leaving, error = (
        torch.cat([part[index].flatten() for part in parts]) for index in range(6)
    )
    # A sample stands for all units: norms are those of the whole tensors.
    size = sum(call.size for call in calls)
    share = size / max(len(margin), 1)
    has_target = target != 0
    targets = has_target.sum()
    # sign(0) is +1.
    reached = torch.where(target > 0, margin >= 0, margin > 0) & has_target
    edges = torch.tensor(MARGIN_EDGES, dtype=margin.dtype, device=margin.device)
    below = ((margin[None, :] < edges[:, None]) & has_target).sum(1)
    bounds = torch.cat([torch.zeros_like(targets)[None], below, targets[None]])
    histogram = bounds.diff() / targets
    metrics = (
        reached.sum() / targets,
        ((slope == 0) & has_target).sum() / targets,
        targets / len(target),
        (entering.square().sum() * share).sqrt(),
        (leaving.square().sum() * share).sqrt(),
        (error.square().sum() * share).sqrt(),
        leaving.abs().var(correction=min(1, len(leaving) - 1)),
    )
    return torch.cat([torch.stack([metric.float() for metric in metrics]), histogram.float()])


def _pooled(call: WatchedCall, loss_scale: float) -> tuple[Tensor, ...]:
    assert call.grad is not None
    units, grad = call.units(), call.grad
    target = sign_target(grad)
    # A gradient so small that its product with the slope vanishes is not a dead unit's.
    slope = call.through_act(units.passed(torch.sign(grad), "grad"))
    leaving = call.through_act(units.passed(grad))
    error = torch.full_like(target, torch.nan)
    if units.rule.has_loss:
        error = units.level - units.estimated_level(target)
    pooled = (target * units.z, target, slope, grad / loss_scale, leaving / loss_scale, error)
    return tuple(each.expand_as(grad).to(_metric_dtype(grad)) for each in pooled)


def _metric_dtype(grad: Tensor) -> torch.dtype:
    return torch.float64 if grad.dtype is torch.float64 else torch.float32


def read(summaries: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The summaries of all quantizers as plain numbers."""
    if not summaries:
        return {}
    device = next(iter(summaries.values())).device
    rows = torch.stack([summary.to(device) for summary in summaries.values()]).tolist()
    return {
        name: dict(zip(_FROM_SAMPLE, row, strict=False)) | {"margins": row[len(_FROM_SAMPLE) :]}
        for name, row in zip(summaries, rows, strict=True)
    }


def signs(calls: Sequence[WatchedCall]) -> tuple[Tensor, Tensor]:
    """Signs of the units' outputs (±1) and targets (±1, 0 where there is none)."""
    outputs = torch.cat([(call.units().z >= 0).flatten() for call in calls])
    grads = torch.cat([call.grad.flatten() for call in calls if call.grad is not None])
    return outputs.to(torch.int8) * 2 - 1, sign_target(grads).to(torch.int8)


def flips(
    previous: tuple[Tensor, Tensor] | None, current: tuple[Tensor, Tensor]
) -> tuple[float | None, float | None]:
    """Share of outputs, and of targets, whose sign has changed; None where not comparable.

    >>> ones = torch.ones(4)
    >>> flips((ones, ones), (torch.tensor([1, 1, -1, 1]), torch.tensor([0, 1, -1, -1])))
    (0.25, 0.6666666865348816)
    """
    if previous is None or previous[0].shape != current[0].shape:
        return None, None
    changed = (previous[0] != current[0]).float().mean()
    # Only units that have a target both times.
    products = previous[1] * current[1]
    turned = (products < 0).sum() / (products != 0).sum()
    return tuple(torch.stack([changed, turned]).tolist())
