"""Shapes and numbers as they are written on the command line."""

from __future__ import annotations

import math


def parse_shape(text: str) -> tuple[int, ...]:
    """A shape from its commas.

    >>> parse_shape("1,3,32,32")
    (1, 3, 32, 32)
    """
    parts = [part.strip() for part in text.strip("()[] ").split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(parts) < 2:
        raise ValueError(
            f"write the input's shape as positive numbers, 1,3,32,32 with the batch size first, "
            f"not {text!r}"
        )
    return tuple(map(int, parts))


def parse_numbers(text: str) -> tuple[float, ...]:
    """Numbers from their commas, with or without brackets.

    >>> parse_numbers("0.5,0.25"), parse_numbers("[0.5, 0.25]")
    ((0.5, 0.25), (0.5, 0.25))
    """
    try:
        numbers = tuple(map(float, text.strip("[] ").split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"write finite numbers with commas between them, not {text!r}")
    return numbers
