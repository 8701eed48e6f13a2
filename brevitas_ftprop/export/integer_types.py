"""QONNX's integer types and the integers that they hold."""

from __future__ import annotations


def integer_range(bits: int, *, signed: bool, narrow: bool) -> tuple[int, int]:
    """Smallest and largest integer of a type.

    Args:
        bits: its width, 1 or more.
        signed: whether it is in two's complement.
        narrow: whether the signed type leaves out its smallest integer, the unsigned one its
            largest.

    >>> integer_range(3, signed=True, narrow=True), integer_range(3, signed=False, narrow=False)
    ((-3, 3), (0, 7))
    """
    if signed:
        return -(1 << bits - 1) + narrow, (1 << bits - 1) - 1
    return 0, (1 << bits) - 1 - narrow


def integer_type(lowest: int, highest: int) -> str:
    """Name of the smallest QONNX integer type that holds 0 and a range.

    >>> integer_type(0, 5), integer_type(-1, 1), integer_type(-8, 7), integer_type(0, 1)
    ('UINT3', 'INT2', 'INT4', 'BINARY')
    """
    if lowest >= 0:
        bits = max(highest.bit_length(), 1)
        return "BINARY" if bits == 1 else f"UINT{bits}"
    bits = 1 + max((-lowest - 1).bit_length(), highest.bit_length())
    return f"INT{bits}"
