"""The options that every target-prop quantizer takes, and where it holds them."""

from typing import Any

import brevitas

from ..ops import check_options

OPTIONS = ("rule", "weighting", "staircase", "saved")


class TakesOptions:
    """A tensor-quant module that holds a rule and its options.

    >>> from torch.nn import Module
    >>> class Quant(TakesOptions, Module): ...
    >>> quant = Quant()
    >>> quant.set_options("SSTE", "grad", "single", "exact")
    >>> quant.rule, quant.saved
    ('saturated_ste', 'exact')
    """

    rule: str
    weighting: str
    staircase: str
    saved: str

    def set_options(self, rule: str, weighting: str, staircase: str, saved: str) -> None:
        """Take the options, in the form in which TorchScript takes them too.

        Raises:
            ValueError: for unknown options.
        """
        rule = check_options(rule, weighting, staircase, saved)
        for name, value in zip(OPTIONS, (rule, weighting, staircase, saved), strict=True):
            setattr(self, name, brevitas.jit.Attribute(value, str))


def rule_holder(tensor_quant: Any) -> Any:
    """The module inside a tensor-quant that holds the rule: ``int_quant``, or itself."""
    return getattr(tensor_quant, "int_quant", tensor_quant)
