"""From a quantizer to the step that it computes, for stock ones of Brevitas and ours alike."""

from collections.abc import Callable
from typing import Any

from brevitas.core.quant import BinaryQuant, ClampedBinaryQuant, RescalingIntQuant, TernaryQuant

from ..kernels import Integers, PaperStaircase, Sign, Step, Ternary
from .binary import TargetPropBinaryQuant
from .integer import is_integer_quantizer, rounding_of
from .rule_options import rule_holder
from .staircase import TargetPropStaircaseQuant
from .ternary import TargetPropTernaryQuant


def _integers(quant: Any, form: str) -> Step | None:
    rounding = rounding_of(quant.int_quant) if is_integer_quantizer(quant) else None
    return None if rounding is None else Integers(rounding, form)


# By the tensor-quant modules that compute it, a subclass of a user's own included.
STEPS: dict[tuple[type, ...], Callable[[Any, str], Step | None]] = {
    (BinaryQuant, ClampedBinaryQuant, TargetPropBinaryQuant): lambda quant, form: Sign(),
    (TernaryQuant, TargetPropTernaryQuant): lambda quant, form: Ternary(quant.threshold, form),
    (TargetPropStaircaseQuant,): lambda quant, form: PaperStaircase(
        quant.steps, quant.max_val, form
    ),
    (RescalingIntQuant,): _integers,
}


def step_of(quant: Any) -> Step | None:
    """The step of a tensor-quant module; None for one that no step is known for: of another kind,
    a variant of the integer quantizer, or one with a rounding of a user's own.

    >>> from brevitas.core.scaling import ConstScaling
    >>> step_of(BinaryQuant(ConstScaling(0.1)))
    Sign()
    >>> step_of(TargetPropStaircaseQuant(3, rule="hinge", staircase="sum"))
    PaperStaircase(steps=3, max_val=1.0, form='sum')
    """
    form = getattr(rule_holder(quant), "staircase", "single")
    for kinds, make in STEPS.items():
        if isinstance(quant, kinds):
            return make(quant, form)
    return None
