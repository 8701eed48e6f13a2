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
from .steps import Number, Operands, Step

__all__ = ["codable", "code_size", "constant", "decode", "encode", "error_bound"]

LEVELS = 255


def codable(rule: Rule) -> bool:
    """Whether a rule's slopes can be coded: they have to lie in a range."""
    return rule.slope_range is not None


def constant(rule: Rule) -> bool:
    """Whether the slope is the same everywhere, so that nothing has to be kept."""
    return rule.even and rule.slope_range is not None and len(set(rule.slope_range)) == 1


def _is_bits(step: Step, rule: Rule) -> bool:
    return rule.two_valued and step.form == "single"


def _unit(step: Step, operands: Operands, rule: Rule) -> tuple[Number, Number]:
    """Smallest total slope, and the difference that one step of the code stands for."""
    assert rule.slope_range is not None
    low, high = rule.slope_range
    count = step.count(operands)
    smallest = step.share * low * count
    if rule.two_valued:
        return smallest, step.share * (high - low)
    return smallest, (step.share * (high - low) / LEVELS) * count


def error_bound(step: Step, operands: Operands, rule: Rule) -> float:
    """Largest difference between a slope and what its code gives back, roundings aside.

    0 for rules whose slope takes two values; else 1/510 of the slope's range, times the number of
    thresholds and their share in the form ``"sum"``.

    >>> from brevitas_ftprop.kernels.steps import Sign
    >>> from brevitas_ftprop.rules import get_rule
    >>> round(error_bound(Sign(), Operands(), get_rule("soft_hinge")), 5)
    0.00196
    """
    if rule.two_valued:
        return 0.0
    return float(_unit(step, operands, rule)[1]) / 2


def code_size(step: Step, rule: Rule, elements: int) -> int:
    """Number of bytes of a code."""
    planes = 1 if rule.even else 2
    return planes * ((elements + 7) // 8 if _is_bits(step, rule) else elements)


def encode(step: Step, x: Tensor, operands: Operands, rule: Rule) -> Tensor:
    """Code of the total slopes at a dense ``x``: uint8, flat, as its elements lie in memory."""
    smallest, unit = _unit(step, operands, rule)
    planes = []
    for target in (1.0,) if rule.even else (1.0, -1.0):
        slope = flat(step.slope(x, operands, rule, target))
        code = slope.sub(smallest).div_(unit).round_()
        planes.append(pack(code) if _is_bits(step, rule) else code.to(torch.uint8))
    return planes[0] if rule.even else torch.cat(planes)


def decode(
    step: Step,
    code: Tensor,
    operands: Operands,
    rule: Rule,
    target: Tensor | None,
    like: Tensor,
) -> Tensor:
    """Total slopes out of their code, of the shape, memory layout and dtype of ``like``."""
    smallest, unit = _unit(step, operands, rule)
    planes = []
    for plane in code.chunk(1 if rule.even else 2):
        values = unpack(plane, like.numel(), like.dtype) if _is_bits(step, rule) else plane
        slope = values.to(like.dtype).mul_(unit).add_(smallest)
        planes.append(slope.as_strided(like.shape, like.stride()))
    if target is None:
        return planes[0]
    return torch.where(target > 0, planes[0], planes[1])


def pack(bits: Tensor) -> Tensor:
    """Eight zeros or ones to a byte, the first in the lowest bit; the last byte is filled up.

    >>> pack(torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0, 1]))
    tensor([3, 1], dtype=torch.uint8)
    """
    bits = bits.to(torch.uint8)
    if bits.device.type == "cpu":
        return torch.from_numpy(np.packbits(bits.numpy(), bitorder="little"))
    padded = torch.nn.functional.pad(bits, (0, -bits.numel() % 8)).view(-1, 8)
    places = 2 ** torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (padded * places).sum(1, dtype=torch.uint8)


def unpack(code: Tensor, elements: int, dtype: torch.dtype) -> Tensor:
    """The first ``elements`` zeros and ones of a packed code.

    >>> unpack(torch.tensor([3, 1], dtype=torch.uint8), 9, torch.int64)
    tensor([1, 1, 0, 0, 0, 0, 0, 0, 1])
    """
    if code.device.type == "cpu":
        bits = np.unpackbits(code.numpy(), count=elements, bitorder="little")
        return torch.from_numpy(bits).to(dtype)
    places = torch.arange(8, dtype=torch.uint8, device=code.device)
    return (code[:, None] >> places & 1).view(-1)[:elements].to(dtype)
