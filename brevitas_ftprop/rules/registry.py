"""Finding rules by name: the registry, and the grammar of rule strings."""

import keyword
import math
from collections.abc import Iterable
from dataclasses import fields
from typing import TypeVar

import torch

from ..specs import made, parse_spec
from .rule import Rule

RULES: dict[str, type[Rule]] = {}
# Rules are immutable, and each forward and backward pass asks for one by its spec.
_FOUND: dict[str, Rule] = {}

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

RuleType = TypeVar("RuleType", bound=type[Rule])


def register(rule: RuleType) -> RuleType:
    """Class decorator that makes a rule known by its name and aliases.

    The rule is tried on a small tensor of each float dtype, so that a mistake shows here and not
    in the first backward pass. A class of ``__main__`` that is defined once more, as a notebook
    does, takes its own place.

    Raises:
        TypeError: if what is decorated is not a subclass of :class:`Rule`.
        ValueError: if a name is no identifier or is taken already, if the rule cannot be made
            without arguments, if ``kinks`` are not ascending finite numbers, if slope or loss
            fail, change the shape or dtype, change their argument or are not finite on the trial,
            or if the slope, tried on [-3, 3], is not what ``even``, ``slope_range``,
            ``two_valued`` and ``clamp_width`` say.

    >>> @register
    ... class MyRule(Rule):
    ...     name = "my_rule"
    ...
    ...     def slope(self, m):
    ...         return 1 / (1 + m * m)
    >>> get_rule("my_rule")
    get_rule('my_rule')
    >>> del RULES["my_rule"]
    """
    if not (isinstance(rule, type) and issubclass(rule, Rule) and rule is not Rule):
        raise TypeError(f"@register needs a subclass of Rule, not {rule!r}")
    _check_names(rule, [known for known in RULES.values() if not _is_run_again(known, rule)])
    _try_out(rule)
    RULES[rule.name] = rule
    return rule


def get_rule(spec: str | Rule, **params: float) -> Rule:
    """Find a rule by name, by the reference implementation's name, or by its spec.

    Args:
        spec: ``"name"``, ``"Alias"`` or either with parameters, ``"name(param=value, ...)"``;
            a :class:`Rule` is returned as it is.
        **params: parameters that replace those of a rule or alias.

    Raises:
        TypeError: if ``spec`` is neither a string nor a :class:`Rule`, or a parameter is not
            a number.
        ValueError: for an unknown name (the valid ones are listed), a rule that is not
            registered, an unreadable spec, an unknown parameter or one given twice, or a value
            out of its range.

    >>> get_rule("SoftHinge") == get_rule("soft_hinge")
    True
    >>> get_rule("saturated_ste(width=1.5)").width
    1.5
    >>> get_rule("Sigmoid3_2", y_scale=1)
    get_rule('sigmoid(x_scale=3.0)')
    """
    if isinstance(spec, str) and not params:
        known_rule = _FOUND.get(spec)
        if known_rule is not None and RULES.get(known_rule.name) is type(known_rule):
            return known_rule
    if isinstance(spec, Rule):
        if RULES.get(spec.name) is not type(spec):
            raise ValueError(f"{spec} is not registered; decorate its class with @register")
        rule = type(spec)
        given = {parameter.name: getattr(spec, parameter.name) for parameter in fields(spec)}
    elif isinstance(spec, str):
        name, written = parse_spec(spec, "rule")
        rule, given = _find(name)
        twice = sorted(written.keys() & params.keys())
        if twice:
            raise ValueError(f"{spec!r} sets {', '.join(twice)} already; give it once")
        given |= written
    else:
        raise TypeError(f"a rule is a name such as 'hinge' or a Rule instance, not {spec!r}")
    given |= params
    found = made(rule, given)
    if isinstance(spec, str) and not params:
        _FOUND[spec] = found
    return found


def _find(name: str) -> tuple[type[Rule], dict[str, float]]:
    if name in RULES:
        return RULES[name], {}
    for rule in RULES.values():
        if name in rule.aliases:
            return rule, dict(rule.aliases[name])
    aliases = sorted(alias for rule in RULES.values() for alias in rule.aliases)
    raise ValueError(
        f"unknown rule {name!r}; valid are {', '.join(sorted(RULES))}, "
        f"and as aliases {', '.join(aliases)}"
    )


def _is_run_again(known: type[Rule], rule: type[Rule]) -> bool:
    """Whether a cell of a notebook that defines a rule is run once more."""
    names = {(each.__module__, each.__qualname__) for each in (known, rule)}
    return names == {("__main__", rule.__qualname__)}


def _check_names(rule: type[Rule], others: Iterable[type[Rule]]) -> None:
    if not hasattr(rule, "name"):
        raise ValueError(f"{rule.__name__} needs a name; set name = ... in the class")
    taken = {}
    for owner in others:
        taken |= dict.fromkeys((owner.name, *owner.aliases), owner.name)
    for name in (rule.name, *rule.aliases):
        if not (isinstance(name, str) and name.isidentifier()) or keyword.iskeyword(name):
            raise ValueError(f"a rule's name must be a Python identifier, not {name!r}")
        if name in taken:
            raise ValueError(
                f"the name {name!r} is taken by the rule {taken[name]!r}; choose another one"
            )
        taken[name] = rule.name


def _try_out(rule: type[Rule]) -> None:
    for parameter in fields(rule):
        if not isinstance(parameter.default, int | float):
            raise ValueError(
                f"every parameter of a rule needs a number as its default, unlike "
                f"{rule.name}'s {parameter.name}; write name and the like without annotation"
            )
    for params in ({}, *rule.aliases.values()):
        instance = rule(**params)
        kinks = instance.kinks
        if not all(map(math.isfinite, kinks)) or list(kinks) != sorted(set(kinks)):
            raise ValueError(f"the kinks of {rule.name} must be finite and ascending, not {kinks}")
        functions = (instance.slope, instance.loss) if instance.has_loss else (instance.slope,)
        for function in functions:
            for dtype in _DTYPES:
                _try_function(f"{rule.name}.{function.__name__}", function, dtype)
        _check_consistency(instance)


def _check_consistency(rule: Rule) -> None:
    # Irregular points, none of them a kink.
    m = torch.linspace(-3.1, 2.9, 97, dtype=torch.float64)
    m = m[[all(abs(float(point) - kink) > 1e-6 for kink in rule.kinks) for point in m]]
    slope = rule.slope(m)
    if rule.two_valued and rule.slope_range is None:
        raise ValueError(f"{rule.name} is declared two-valued; set slope_range to the two values")
    if rule.slope_range is not None:
        low, high = rule.slope_range
        # The declared numbers may be rounded ones.
        slack = 1e-6 * (high - low)
        outside = (slope < low - slack) | (slope > high + slack)
        if rule.two_valued:
            outside |= (slope != low) & (slope != high)
        if outside.any():
            values = "has other values than" if rule.two_valued else "leaves"
            raise ValueError(f"the slope of {rule.name} {values} {rule.slope_range}")
    if rule.clamp_width is not None and not torch.equal(
        slope, (m.abs() <= rule.clamp_width).to(m.dtype)
    ):
        raise ValueError(
            f"{rule.name} has the clamp_width {rule.clamp_width}, but its slope is not 1 within it "
            "and 0 beyond"
        )
    if rule.even and not torch.allclose(slope, rule.slope(-m)):
        raise ValueError(f"{rule.name} is declared even, but its slope at m and -m differs")
    if rule.has_loss:
        m.requires_grad_()
        (derivative,) = torch.autograd.grad(rule.loss(m).sum(), m)
        if not torch.allclose(slope, -derivative):
            raise ValueError(f"the slope of {rule.name} is not minus the derivative of its loss")


def _try_function(what: str, function, dtype: torch.dtype) -> None:
    m = torch.tensor([[-2.0, 0.0, 0.5], [1.0, 2.0, 3.0]], dtype=dtype, device="cpu")
    argument = m.clone()
    try:
        result = function(argument)
    except Exception as error:
        raise ValueError(f"{what} fails on a {dtype} tensor: {error}") from error
    if not isinstance(result, torch.Tensor):
        raise ValueError(f"{what} must return a tensor, not {result!r}")
    if result.shape != m.shape or result.dtype != dtype:
        raise ValueError(
            f"{what} must keep shape and dtype: given {tuple(m.shape)} {dtype}, "
            f"it returned {tuple(result.shape)} {result.dtype}"
        )
    if not torch.equal(argument, m):
        raise ValueError(f"{what} must not change its argument in place")
    if not result.isfinite().all():
        raise ValueError(f"{what} must be finite: margins {m.tolist()} gave {result.tolist()}")
