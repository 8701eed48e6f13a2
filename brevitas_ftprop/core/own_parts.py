"""Roundings and clamps that a target-prop step cannot stand in for."""

from brevitas.core.function_wrapper import InplaceTensorClampSte, TensorClamp, TensorClampSte
from torch.nn import Module

CLAMPS = (TensorClamp, TensorClampSte, InplaceTensorClampSte)


def check_clamp(clamp: Module | None) -> None:
    """Raise unless a clamp only clamps, which a target-prop step does itself.

    Raises:
        TypeError: for a clamp of a user's own, which the step would leave out.

    >>> check_clamp(TensorClamp())
    """
    if clamp is not None and type(clamp) not in CLAMPS:
        raise TypeError(
            f"a target rule clamps by itself and would leave out what {type(clamp).__name__} does; "
            f"the clamps that it knows are {', '.join(known.__name__ for known in CLAMPS)}"
        )


def check_rounding(rounding: Module) -> None:
    """Raise if a rounding learns: a target-prop step gives it no gradient.

    Raises:
        TypeError: for a rounding with parameters, such as Brevitas' ``LearnedRoundSte``.

    >>> check_rounding(Module())
    """
    if next(rounding.parameters(), None) is not None:
        raise TypeError(
            f"{type(rounding).__name__} learns its rounding, and a target rule gives it no "
            "gradient: learn it with a stock quantizer (restore_quantizers)"
        )
