"""What the compact form keeps for backward: the slopes themselves, in a bit or a byte each.

A rule's slope takes few values or lies in a short range, so that a code of it says all that
backward has to know of the input: one bit where it takes two values, else a byte. Where the slope
depends on the target's sign, which backward alone knows, both possible slopes are kept.
"""

import numpy as np
import torch
from torch import Tensor

from ..rules import Rule
from .layout import flat
from .step import Number, Operands, Step, is_zero

LEVELS = 255


def codable(rule: Rule) -> bool:
    """Whether a rule's slopes can be coded: they have to lie in a range."""
    return rule.slope_range is not None


def has_constant_slope(step: Step, rule: Rule) -> bool:
    """Whether the slope is the same everywhere, so that nothing has to be kept."""
    low, high = _range(step, rule) if codable(rule) else (0.0, 1.0)
    return rule.even and low == high


def _range(step: Step, rule: Rule) -> tuple[float, float]:
    """Range of one unit's slope, 0 included where a ReLU blocks the gradient."""
    assert rule.slope_range is not None
    low, high = rule.slope_range
    return (min(low, 0.0), max(high, 0.0)) if step.relu else (low, high)


def is_two_valued(step: Step, rule: Rule) -> bool:
    """Whether a unit's slope takes two values, a ReLU's 0 among them."""
    return rule.two_valued and _range(step, rule)[0] in (0.0, _range(step, rule)[1])


def is_bits(step: Step, rule: Rule) -> bool:
    """Whether a code takes one bit for an element."""
    return step.form == "single" and is_two_valued(step, rule)


def unit_of(step: Step, operands: Operands, rule: Rule) -> tuple[Number, Number]:
    """Smallest total slope, and the difference that one step of the code stands for."""
    low, high = _range(step, rule)
    count = step.count(operands)
    smallest = step.share * low * count
    if is_two_valued(step, rule):
        # One for a unit, unless there are more units than a byte can count.
        stretch = count * (1 / LEVELS)
        stretch = stretch.clamp(min=1) if isinstance(stretch, Tensor) else max(1.0, stretch)
        return smallest, step.share * (high - low) * stretch
    return smallest, (step.share * (high - low) / LEVELS) * count


def error_bound(step: Step, operands: Operands, rule: Rule) -> float:
    """Largest difference between a slope and what its code gives back, roundings aside.

    0 for rules whose slope takes two values (at up to 255 thresholds), and for those without a
    code; else 1/510 of the slope's range, times the number of thresholds and their share in the
    form ``"sum"``.

    >>> from brevitas_ftprop.kernels.registered_steps import Sign
    >>> from brevitas_ftprop.rules import get_rule
    >>> round(error_bound(Sign(), Operands(), get_rule("soft_hinge")), 5)
    0.00196
    """
    if not codable(rule) or (is_two_valued(step, rule) and step.count(operands) <= LEVELS):
        return 0.0
    return float(unit_of(step, operands, rule)[1]) / 2


def code_size(step: Step, rule: Rule, elements: int) -> int:
    """Number of bytes of a code."""
    planes = 1 if rule.even else 2
    return planes * ((elements + 7) // 8 if is_bits(step, rule) else elements)


def encode(step: Step, x: Tensor, operands: Operands, rule: Rule) -> Tensor:
    """Code of the total slopes at a dense ``x``: uint8, flat, as its elements lie in memory."""
    planes = []
    for target in (1.0,) if rule.even else (1.0, -1.0):
        slope, gate = step.slope(x, operands, rule, target), step.gate(x)
        slope = slope if gate is None else slope.mul_(gate)
        planes.append(encode_slope(step, flat(slope), operands, rule))
    return planes[0] if rule.even else torch.cat(planes)


def encode_slope(step: Step, slope: Tensor, operands: Operands, rule: Rule) -> Tensor:
    """Code of flat slopes, which it overwrites, for one sign of the target."""
    if is_bits(step, rule):
        # One of the two values is 0.
        return pack(slope.to(torch.bool))
    smallest, unit = unit_of(step, operands, rule)
    # A product, since devices differ in what they make of a division by a number.
    inverse = 0.0 if is_zero(unit) else 1 / unit
    code = (slope if is_zero(smallest) else slope.sub_(smallest)).mul_(inverse).round_()
    # Roundings may lead out of the range, and a byte would not tell 256 from 0. By way of int32,
    # since torch's own way from floats to bytes is several times as slow.
    return code.clamp_(0, LEVELS).to(torch.int32).to(torch.uint8)


def decode(
    step: Step, code: Tensor, operands: Operands, rule: Rule, target: Tensor | None, like: Tensor
) -> Tensor:
    """Total slopes out of their code, of the shape, memory layout and dtype of ``like``."""
    smallest, unit = unit_of(step, operands, rule)
    planes = []
    for plane in code.chunk(1 if rule.even else 2):
        values = unpack(plane, like.numel(), like.dtype) if is_bits(step, rule) else plane
        slope = values.to(like.dtype)
        if not (isinstance(unit, float) and unit == 1):
            slope.mul_(unit)
        if not is_zero(smallest):
            slope.add_(smallest)
        planes.append(slope.as_strided(like.shape, like.stride()))
    if target is None:
        return planes[0]
    return torch.where(target > 0, planes[0], planes[1])


def _has_numpy(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def pack(bits: Tensor) -> Tensor:
    """Eight bits to a byte, the first in the lowest place; the last byte is filled up.

    >>> pack(torch.tensor([1, 1, 0, 0, 0, 0, 0, 0, 1], dtype=torch.bool))
    tensor([3, 1], dtype=torch.uint8)
    """
    if _has_numpy(bits):
        return torch.from_numpy(np.packbits(bits.numpy(), bitorder="little"))
    padded = torch.nn.functional.pad(bits, (0, -bits.numel() % 8)).view(-1, 8)
    places = 2 ** torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (padded * places).sum(1, dtype=torch.uint8)


def unpack(code: Tensor, elements: int, dtype: torch.dtype) -> Tensor:
    """The first ``elements`` zeros and ones of a packed code.

    >>> unpack(torch.tensor([3, 1], dtype=torch.uint8), 9, torch.int64)
    tensor([1, 1, 0, 0, 0, 0, 0, 0, 1])
    """
    if _has_numpy(code):
        bits = np.unpackbits(code.numpy(), count=elements, bitorder="little")
        return torch.from_numpy(bits).to(dtype)
    places = torch.arange(8, dtype=torch.uint8, device=code.device)
    return (code[:, None] >> places & 1).view(-1)[:elements].to(dtype)
