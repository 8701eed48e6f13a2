"""What the kernels are launched with: a step and its operands as their arguments."""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....rules import Rule
from ...codes import codable, is_bits, is_two_valued, unit_of
from ...registered_steps import Integers, PaperStaircase, Ternary
from ...step import Operands, Step

# Elements for each program: 8 for each thread of 8 warps, two wide loads in float32.
BLOCK = 2048
# With as many elements, offsets of elements beyond the last could leave 32 bits.
LARGE = 2**31 - 2**24

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Kind:
    """What is settled when a kernel is compiled, in the one constant that it takes for all of it.

    Attributes:
        step, rounding, summed, relu: the step, how it rounds, and whether its form is the sum.
        slope, even: the shape of the rule's slope, see :mod:`.slopes`.
        clips: whether the one unit is clipped at the ends of its range.
        passes_inside: whether the gradient passes inside that range and nowhere else.
        scale_varies, zero_point_varies: whether they have a value for each channel.
        exact: whether the scale keeps digits that the result's dtype does not have.
        on_cpu: whether plain numbers take part in sums as the CPU has it.
        bits, unit_counted: whether a code takes a bit, and whether its unit is that of one unit.
        quotient, dtype, compute: of x/s, what eager computes in, and what the kernel does.
        smooth: whether slopes and gradients may differ from eager's by a few roundings, so that a
            multiplication takes the place of a division.
        quick, within: whether so may the scaled input, and the dtype that it is rounded to.
        index: of places in memory.
        by: what lengths are a multiple of, see :func:`.places`.
        layout, height, width: a program's ``height · width`` elements are, in ``"flat"``, following
            one another; in ``"rows"`` of one channel, ``height`` runs of ``width``; in
            ``"columns"``, where neighbours are of different channels, of ``width`` channels.
    """

    step: str
    rounding: str
    summed: bool
    relu: bool
    slope: str
    even: bool
    clips: bool
    passes_inside: bool
    scale_varies: bool
    zero_point_varies: bool
    exact: bool
    on_cpu: bool
    bits: bool
    unit_counted: bool
    quotient: Any
    dtype: Any
    compute: Any
    smooth: bool
    quick: bool
    within: Any
    index: Any
    by: int
    layout: str
    height: int
    width: int


class Channels(NamedTuple):
    """A tensor as it lies in memory, seen from the dimension that operands vary along.

    Attributes:
        outer: how often the channels follow one another.
        count: number of channels.
        inner: number of neighbours of the same channel.
    """

    outer: int
    count: int
    inner: int


def varies(operand: Tensor | None) -> bool:
    """Whether an operand has a value for each channel."""
    return operand is not None and operand.numel() > 1


def channels_of(x: Tensor, operands: Operands) -> Channels:
    """The channels of a dense ``x``; one of all elements where no operand varies."""
    for operand in (operands.scale, operands.zero_point):
        if varies(operand):
            at = next(i for i, size in enumerate(operand.shape) if size > 1)
            dimension = x.dim() - operand.dim() + at
            # From the outermost dimension in memory to the innermost.
            order = sorted(range(x.dim()), key=x.stride, reverse=True)
            place = order.index(dimension)
            sizes = [x.shape[each] for each in order]
            return Channels(prod(sizes[:place]), sizes[place], prod(sizes[place + 1 :]))
    return Channels(1, 1, x.numel())


def tiles_of(channels: Channels, *, flat: bool) -> tuple[int, dict[str, Any]]:
    """How many programs there are, and the arguments that say which elements one has.

    Args:
        channels: those of a tensor with elements.
        flat: whether the elements of a program have to follow one another.
    """
    outer, count, inner = channels
    if flat or count == 1:
        layout, length = "flat", outer * count * inner
        height, width = 1, BLOCK
        programs = chunks = -(-length // BLOCK)
    elif inner > 1:
        layout, length = "rows", inner
        width = min(_power_of_two(inner), BLOCK)
        height = min(_power_of_two(outer), BLOCK // width)
        chunks = -(-outer // height) * -(-inner // width)
        programs = count * chunks
    else:
        layout, length = "columns", count
        width = min(_power_of_two(count), 64)
        height = min(_power_of_two(outer), BLOCK // width)
        chunks = -(-outer // height)
        programs = -(-count // width) * chunks
    by = gcd(length, 16)
    return programs, {
        "units": length // by,
        "by": by,
        "channels": count,
        "inner": inner,
        "outer": outer,
        "chunks": chunks,
        "layout": layout,
        "height": height,
        "width": width,
    }


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def on_cpu(device: torch.device) -> bool:
    """Whether torch computes as it does on a CPU, with plain numbers of more digits."""
    return device.type == "cpu"


def arguments(
    step: Step,
    operands: Operands,
    rule: Rule,
    x: Tensor,
    dtype: torch.dtype,
    tiles: dict[str, Any],
    *,
    of_code: bool = False,
    compares: bool = False,
) -> dict[str, Any]:
    """Those arguments that both passes have, beside the pointers.

    Args:
        step, operands, rule: what is computed.
        x: the input, or a tensor of its dtype and size.
        dtype: what eager computes in.
        tiles: of :func:`tiles_of`.
        of_code: whether the slopes come out of a code, which says the same to all backends.
        compares: whether integers are compared, which have to be eager's.
    """
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    from .slopes import SLOPES

    slope = SLOPES[type(rule)]
    first, second = _numbers_of(step, rule)
    p0, p1, p2, *_ = (*slope.parameters(rule), 0.0, 0.0, 0.0)
    code_base, code_unit = _code_numbers(step, rule)
    as_on_cpu, scale = on_cpu(x.device), operands.scale
    wide = tl.float64 if dtype is torch.float64 else tl.float32
    # On which side of a kink an input lies must not hang on a rounding.
    smooth = slope.smooth and not rule.kinks and not of_code
    quick = smooth and not (compares and isinstance(step, Integers))
    kind = Kind(
        step=step.name,
        rounding=step.rounding if isinstance(step, Integers) else "round",
        summed=step.form == "sum",
        relu=step.relu,
        slope=slope.shape,
        even=rule.even,
        clips=isinstance(step, Integers | PaperStaircase) and bool(rule.kinks),
        passes_inside=rule.clamp_width == 1,
        scale_varies=varies(scale),
        zero_point_varies=varies(operands.zero_point),
        exact=as_on_cpu and scale is not None and scale.dim() == 0,
        on_cpu=as_on_cpu,
        bits=is_bits(step, rule),
        unit_counted=not is_two_valued(step, rule),
        quotient=_of_triton(dtype if scale is None else torch.result_type(x, scale), tl),
        dtype=_of_triton(dtype, tl),
        compute=wide,
        smooth=smooth,
        quick=quick,
        within=wide if quick else _of_triton(dtype, tl),
        index=tl.int64 if x.numel() >= LARGE else tl.int32,
        **{name: tiles[name] for name in ("by", "layout", "height", "width")},
    )
    numbers = {"rule_0": p0, "rule_1": p1, "rule_2": p2, "kind": kind}
    numbers |= {"first_number": first, "second_number": second}
    return tiles | numbers | {"code_base": code_base, "code_unit": code_unit}


def _numbers_of(step: Step, rule: Rule) -> tuple[float, float]:
    """The numbers of a step, in the order that their arguments have."""
    if isinstance(step, Ternary):
        return step.threshold, 0.5 / step.threshold
    if isinstance(step, PaperStaircase):
        return float(step.steps), step.max_val
    return rule.clamp_width or 0.0, 0.0


@lru_cache(maxsize=1024)
def _code_numbers(step: Step, rule: Rule) -> tuple[float, float]:
    """Smallest slope and unit of a code, for a count of 1 where only the device knows it."""
    if not codable(rule):
        return 0.0, 1.0
    lo, hi = torch.tensor([0.0, 1.0], device="cpu")
    return unit_of(step, Operands(lo=lo, hi=hi), rule)


def _of_triton(dtype: torch.dtype, tl: Any) -> Any:
    return getattr(tl, str(dtype).removeprefix("torch."))
