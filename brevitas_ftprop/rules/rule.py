"""The target rule: a layer loss as a function of the margin, and its slope."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from ..specs import Specified

Aliases: TypeAlias = Mapping[str, Mapping[str, float]]


class Rule(Specified):
    """A loss ``l(m)`` on the margin ``m = t·z`` of a unit, and its slope ``s(m) = -l'(m)``.

    A subclass is a rule of its own: it sets ``name`` and defines :meth:`slope`, and where it can
    :meth:`loss`. Its parameters are annotated class attributes (``width: float = 1.0``,
    :func:`positive` or :func:`bounded`), keyword-only and always finite. Rules are immutable,
    compare and hash by :attr:`spec`, and can be pickled. One whose shape changes in the course of
    training defines :meth:`at`.

    ``loss`` and ``slope`` take a tensor of any shape in float64, float32, bfloat16 or float16 and
    return the same shape and dtype, finite wherever the margin is: what the dtype cannot hold
    becomes its largest value. Constants are rounded to the dtype of the margin. Where the margin
    is NaN the slope is NaN, or 0 if a comparison decides whether the gradient passes (1 for a
    constant slope).

    Attributes:
        name: what :func:`~brevitas_ftprop.rules.get_rule` finds the rule by.
        aliases: further names, each with the parameters that it stands for; not inherited.
        even: whether ``s(-m) = s(m)``, so that the slope does not depend on the target's sign.
        kinks: the margins at which the slope jumps, ascending. What the slope is *at* a kink
            is part of the rule.
        slope_range: smallest and largest slope, where both are finite; compact saving needs it.
        two_valued: whether the slope takes no values but the ends of ``slope_range``.
        clamp_width: half-width of the clamp that the rule is the derivative of, where it is one:
            a learned scale then also moves the clamp's ends, as in stock Brevitas.

    Read ``even``, ``kinks``, ``slope_range`` and ``clamp_width`` from an instance: they may depend
    on its parameters.

    Raises:
        TypeError: if a parameter is not a number.
        ValueError: if a parameter is not finite or out of its range.

    >>> class Cubic(Rule):
    ...     name = "cubic"
    ...     power: float = 3.0
    ...
    ...     def slope(self, m):
    ...         return (1 - m).clamp(0, 2) ** (self.power - 1)
    >>> Cubic(power=4).spec, Cubic().has_loss
    ('cubic(power=4.0)', False)
    """

    name: ClassVar[str]
    aliases: ClassVar[Aliases] = {}
    even: ClassVar[bool] = False
    kinks: ClassVar[tuple[float, ...]] = ()
    slope_range: ClassVar[tuple[float, float] | None] = None
    two_valued: ClassVar[bool] = False
    clamp_width: ClassVar[float | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "aliases" not in vars(cls):
            cls.aliases = {}
        if "slope" in vars(cls) and "slope_range" not in vars(cls):
            # What a parent says of its own slope need not hold for another one.
            cls.slope_range, cls.two_valued = None, False
            if "clamp_width" not in vars(cls):
                cls.clamp_width = None

    def loss(self, m: Tensor) -> Tensor:
        """Layer loss at margin ``m``; differentiable, and the slope is minus its derivative.

        Raises:
            NotImplementedError: if the rule is defined by its slope alone.
        """
        raise NotImplementedError(f"{self.name} is defined by its slope alone and has no loss")

    def slope(self, m: Tensor) -> Tensor:
        """Share of the incoming gradient that passes at margin ``m``, ``-l'(m)``."""
        raise NotImplementedError(f"{type(self).__name__} must define slope(m)")

    def curvature(self, m: Tensor) -> Tensor:
        """Second derivative of the loss at margin ``m``, at a kink that of one of its sides.

        Raises:
            NotImplementedError: if the rule is defined by its slope alone.
        """
        m = m.detach().requires_grad_()
        with torch.enable_grad():
            (first,) = torch.autograd.grad(self.loss(m).sum(), m, create_graph=True)
            if not first.requires_grad:
                return torch.zeros_like(m)
            return torch.autograd.grad(first.sum(), m, materialize_grads=True)[0]

    def at(self, progress: float) -> "Rule":
        """The rule at a point of training; the rule itself, unless its shape follows a schedule.

        Args:
            progress: share of the training that is done, in [0, 1].
        """
        return self

    @property
    def has_loss(self) -> bool:
        """Whether the rule defines a loss."""
        return type(self).loss is not Rule.loss

    def __repr__(self) -> str:
        return f"get_rule({self.spec!r})"
