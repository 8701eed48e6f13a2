"""The two passes of this backend, by plans that are made once for each kind of tensors."""

from collections.abc import Callable, Hashable
from typing import Any

from torch import Tensor

from ....rules import Rule
from ...saved_forms import Keep
from ...step import Operands, Step
from ..eager import Asked, Gradients
from .plans import BackwardPlan, ForwardPlan

PLANS: dict[Hashable, Any] = {}
# More are needed where shapes or schedules change from step to step, and then none is for long.
MOST_PLANS = 4096


def forward(
    step: Step, x: Tensor, operands: Operands, rule: Rule, keep: Keep
) -> tuple[Tensor, Tensor]:
    """As :func:`.eager.forward`."""
    key = id(step), id(rule), keep, *_kinds(x, *operands)
    plan = PLANS.get(key) or _made(key, lambda: ForwardPlan(step, x, operands, rule, keep))
    return plan(x, operands)


def backward(
    step: Step, grad: Tensor, kept: Tensor | None, operands: Operands, rule: Rule, asked: Asked
) -> Gradients:
    """As :func:`.eager.backward`."""
    key = id(step), id(rule), asked, *_kinds(grad, kept, *operands)
    plan = PLANS.get(key) or _made(
        key, lambda: BackwardPlan(step, grad, kept, operands, rule, asked)
    )
    return plan(grad, kept, operands)


def _kinds(*tensors: Tensor | None) -> list[Hashable]:
    """What plans depend on of tensors, which are all on one device."""
    device = tensors[0].device  # pyright: ignore[reportOptionalMemberAccess]
    kinds: list[Hashable] = [
        None if each is None else (each.dtype, each.shape, each.stride()) for each in tensors
    ]
    return [device, *kinds]


def _made(key: Hashable, make: Callable[[], Any]) -> Any:
    if len(PLANS) >= MOST_PLANS:
        PLANS.clear()
    PLANS[key] = plan = make()
    return plan
