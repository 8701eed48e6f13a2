"""Finding target setters by name."""

from __future__ import annotations

from typing import TypeVar

from ..specs import made, parse_spec
from .setter import TargetSetter

SETTERS: dict[str, type[TargetSetter]] = {}

SetterType = TypeVar("SetterType", bound=type[TargetSetter])


def register_setter(setter: SetterType) -> SetterType:
    """Class decorator that makes a target setter known by its name.

    Raises:
        TypeError: if what is decorated is no subclass of :class:`TargetSetter`.
        ValueError: if its name is no identifier or is taken already.

    >>> @register_setter
    ... class Follow(TargetSetter):
    ...     name = "follow"
    >>> get_setter("follow")
    get_setter('follow')
    >>> del SETTERS["follow"]
    """
    if not (isinstance(setter, type) and issubclass(setter, TargetSetter)):
        raise TypeError(f"@register_setter needs a subclass of TargetSetter, not {setter!r}")
    name = getattr(setter, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{setter.__name__} needs a name that is an identifier, not {name!r}")
    known = SETTERS.get(name)
    # A notebook may define its own once more.
    if known is not None and (known.__module__, setter.__module__) != ("__main__", "__main__"):
        raise ValueError(f"the name {name!r} is taken by a setter already; choose another one")
    setter()
    SETTERS[name] = setter
    return setter


def get_setter(spec: str | TargetSetter) -> TargetSetter:
    """Find a target setter by its spec.

    Args:
        spec: ``"name"`` or ``"name(param=value, ...)"``; a setter is returned as it is.

    Raises:
        TypeError: if ``spec`` is neither a string nor a :class:`TargetSetter`.
        ValueError: for an unknown name or parameter (the valid ones are listed), or a value out of
            its range.

    >>> get_setter("local_search(candidates=16)").candidates
    16
    """
    if isinstance(spec, TargetSetter):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"a target setter is a name such as 'curvature', not {spec!r}")
    name, params = parse_spec(spec, "target setter")
    if name not in SETTERS:
        raise ValueError(f"unknown target setter {name!r}; valid are {', '.join(sorted(SETTERS))}")
    return made(SETTERS[name], params)
