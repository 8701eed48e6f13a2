"""What a quantizer keeps for its backward pass, in the least memory that is asked for.

Nothing where the slope is the same everywhere, else the input itself in the exact form; in the
compact form a code of the slopes (:mod:`.codes`), or, where that is not enough, a half, ``x/s`` in
16 bits: a learned scale's gradient depends on the input itself, and so does a slope without a
bound. From a half, the gradient is the exact one at an input that differs from the true one by at
most 1/1024 of itself (below 2^-14 scales, by at most 2^-24 scales; what lies beyond 65 504 scales
is taken for that). It is rounded to odd: a number that 11 bits cannot express becomes the one of
its neighbours whose last bit is 1, and so stays on its side of 0 and of every threshold and kink
that 10 bits express, as multiples of 1/2 scales are up to 512.
"""

from enum import StrEnum

import torch
from torch import Tensor

from ..rules import Rule
from .codes import codable, code_size, encode, has_constant_slope
from .step import Operands, Step

# What callers ask for; a Keep is made of it where what learns is known.
SAVED_FORMS = ("exact", "compact")


class Keep(StrEnum):
    """What can be kept."""

    NOTHING = "nothing"
    INPUT = "input"
    CODE = "code"
    HALF = "half"

    @property
    def is_made(self) -> bool:
        """Whether a forward pass makes it, beside its result."""
        return self in (Keep.CODE, Keep.HALF)


LARGEST = torch.finfo(torch.float16).max
# As integers, floats of a dtype, and the bits of their fraction that a half does not have.
BEYOND_HALF = {torch.float32: (torch.int32, 2**13 - 1), torch.float64: (torch.int64, 2**42 - 1)}
MINUS_ZERO = -(2**15)
# A half is kept as an integer, which tells it from an input in float16.
KINDS = {torch.uint8: Keep.CODE, torch.int16: Keep.HALF}


def what_to_keep(step: Step, rule: Rule, saved: str, dtype: torch.dtype, *, learns: bool) -> Keep:
    """The kind that backward can do with.

    Args:
        step, rule: what is computed.
        saved: ``"exact"`` or ``"compact"``.
        dtype: of the input.
        learns: whether an operand does.
    """
    if not learns and has_constant_slope(step, rule):
        return Keep.NOTHING
    if saved == "compact":
        if not learns and codable(rule) and code_size(step, rule, 8) < 8 * dtype.itemsize:
            return Keep.CODE
        if dtype.itemsize > 2:
            return Keep.HALF
    return Keep.INPUT


def keep_of(kept: Tensor | None) -> Keep:
    """What a kept tensor is."""
    return Keep.NOTHING if kept is None else KINDS.get(kept.dtype, Keep.INPUT)


def kept_of(keep: Keep, x: Tensor, made: Tensor) -> Tensor | None:
    """What is kept of an input and of the code or half that :func:`compact` made of it."""
    if keep is Keep.INPUT:
        return x
    return None if keep is Keep.NOTHING else made


def empty_compact(keep: Keep, step: Step, x: Tensor, rule: Rule) -> Tensor:
    """Where :func:`compact` can be written to."""
    if keep is Keep.HALF:
        return torch.empty_like(x, dtype=torch.int16)
    size = code_size(step, rule, x.numel()) if keep is Keep.CODE else 0
    return x.new_empty(size, dtype=torch.uint8)


def compact(keep: Keep, step: Step, x: Tensor, operands: Operands, rule: Rule) -> Tensor:
    """The code or half of a dense ``x``; empty for the other kinds.

    >>> from brevitas_ftprop.kernels import Sign
    >>> from brevitas_ftprop.rules import get_rule
    >>> x, operands = torch.tensor([0.35, 0.34999, -1e9]), Operands(torch.tensor(0.1))
    >>> half = compact(Keep.HALF, Sign(), x, operands, get_rule("adaline"))
    >>> half.view(torch.float16)
    tensor([ 3.5000e+00,  3.4980e+00, -6.5504e+04], dtype=torch.float16)
    """
    if keep is Keep.CODE:
        return encode(step, x, operands, rule)
    if keep is Keep.HALF:
        v = x.clone() if operands.scale is None else x / operands.scale
        return _rounded_to_odd(v.clamp_(-LARGEST, LARGEST))
    return empty_compact(keep, step, x, rule)


def _rounded_to_odd(v: Tensor) -> Tensor:
    """Halves of floats, which it overwrites; as integers."""
    integers, beyond = BEYOND_HALF[v.dtype]
    is_something = v.to(torch.bool)
    bits = v.view(integers)
    # The sum carries into the last bit that stays, unless all bits beyond are 0.
    bits.bitwise_or_((bits & beyond).add_(beyond)).bitwise_and_(~beyond)
    half = v.to(torch.float16).view(torch.int16)
    # What is too small for a half is no zero for that: the smallest number has the next integer.
    return torch.maximum(half, (half & MINUS_ZERO).add_(is_something))


def input_of(kept: Tensor, operands: Operands, dtype: torch.dtype) -> Tensor:
    """The input that backward computes with; a half comes out in ``dtype``.

    >>> half = torch.tensor([3.0], dtype=torch.float16).view(torch.int16)
    >>> input_of(half, Operands(torch.tensor(0.5)), torch.float32)
    tensor([1.5000])
    """
    if keep_of(kept) is not Keep.HALF:
        return kept
    v = kept.view(torch.float16).to(dtype)
    return v if operands.scale is None else (v * operands.scale).to(dtype)
