"""Give an attribute of a module or class another value, and give it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["replaced"]


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Let an attribute have another value in the block, or be there at all.

    >>> class Layer:
    ...     kind = "plain"
    >>> class Convolution(Layer): ...
    >>> with replaced(Convolution, "kind", "dense"):
    ...     Convolution.kind
    'dense'
    >>> Convolution.kind, "kind" in vars(Convolution)
    ('plain', False)
    """
    was_there = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if was_there:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
