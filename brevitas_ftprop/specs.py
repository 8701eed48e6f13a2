"""Things with a name and numbers as parameters, written as ``"name(param=value)"``."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar, TypeVar, dataclass_transform

_SPEC = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*")

# Narrow enough that float16 holds each parameter, its reciprocal and the product of any two.
SMALLEST, LARGEST = 0.01, 100.0


def positive(*, default: float) -> Any:
    """Declare a parameter that must lie in [0.01, 100].

    >>> class Steep(Specified):
    ...     name = "steep"
    ...     factor: float = positive(default=3.0)
    >>> Steep(factor=-1)
    Traceback (most recent call last):
        ...
    ValueError: steep: factor must lie in [0.01, 100.0], not -1.0
    """
    return bounded(SMALLEST, LARGEST, default=default)


def bounded(low: float, high: float, *, default: float) -> Any:
    """Declare a parameter that must lie in [low, high].

    >>> class Leaky(Specified):
    ...     name = "leaky"
    ...     leak: float = bounded(0.0, 1.0, default=0.1)
    >>> Leaky(leak=2)
    Traceback (most recent call last):
        ...
    ValueError: leaky: leak must lie in [0.0, 1.0], not 2.0
    """
    return field(default=default, metadata={"range": (low, high)})


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(positive, bounded)
)
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Specified:
    """Base of what is named and parametrised; immutable, compares and hashes by :attr:`spec`.

    A subclass sets ``name``; its annotated class attributes with a number as default are its
    parameters, keyword-only, finite, and whole numbers where they are annotated as ``int``.

    Raises:
        TypeError: if a parameter is not a number.
        ValueError: if a parameter is not finite, no whole number or out of its range.

    >>> class Search(Specified):
    ...     name = "search"
    ...     candidates: int = 64
    >>> Search(candidates=8.0).spec
    'search(candidates=8)'
    """

    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        for parameter in fields(self):
            value = getattr(self, parameter.name)
            what = f"{self.name}: {parameter.name}"
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{what} must be a number, not {value!r}")
            value = float(value)
            if not math.isfinite(value):
                raise ValueError(f"{what} must be finite, not {value}")
            if parameter.type in (int, "int"):
                if not value.is_integer():
                    raise ValueError(f"{what} must be a whole number, not {value}")
                value = int(value)
            low, high = parameter.metadata.get("range", (-math.inf, math.inf))
            if not low <= value <= high:
                raise ValueError(f"{what} must lie in [{low}, {high}], not {value}")
            object.__setattr__(self, parameter.name, value)

    @property
    def spec(self) -> str:
        """Canonical string, which is read again as what it is made of.

        Parameters that have their default value are left out.
        """
        changed = [
            f"{parameter.name}={getattr(self, parameter.name)!r}"
            for parameter in fields(self)
            if getattr(self, parameter.name) != parameter.default
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Specified):
            return NotImplemented
        return type(self) is type(other) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __str__(self) -> str:
        return self.spec


SpecifiedType = TypeVar("SpecifiedType", bound=Specified)


def parse_spec(spec: str, kind: str) -> tuple[str, dict[str, float]]:
    """Name and parameters of a spec.

    Args:
        spec: ``"name"`` or ``"name(param=value, ...)"``.
        kind: what it is the spec of, for the error.

    Raises:
        ValueError: for a spec that cannot be read, or sets a parameter twice.

    >>> parse_spec("local_search(candidates=8)", "setter")
    ('local_search', {'candidates': 8.0})
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ValueError(f"cannot read the {kind} {spec!r}; write 'name' or 'name(param=value)'")
    name, arguments = match.groups()
    params: dict[str, float] = {}
    for argument in (arguments or "").split(",") if (arguments or "").strip() else ():
        key, _, value = (part.strip() for part in argument.partition("="))
        if key in params:
            raise ValueError(f"{spec!r} sets {key} twice")
        try:
            params[key] = float(value)
        except ValueError:
            raise ValueError(
                f"cannot read {argument.strip()!r} in the {kind} {spec!r}; write param=number"
            ) from None
    return name, params


def made(kind: type[SpecifiedType], given: Mapping[str, float]) -> SpecifiedType:
    """Make one of its parameters.

    Raises:
        ValueError: for a parameter that it does not have (those that it has are listed), or what
            the class refuses.
    """
    known = [parameter.name for parameter in fields(kind)]
    for parameter in given:
        if parameter not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"{kind.name} has no parameter {parameter!r}; {takes}")
    return kind(**given)
