"""Triton kernels: a pass over the elements forwards and one backwards.

Triton is imported when a step is first computed here. Elements equal eager's to the bit where the
rule's slope is made of straight lines; smooth slopes differ by the roundings of an exponential.
Sums are added up in another order, in the same one each time.
"""

import os
import shutil
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...rules import Rule
from ..codes import code_size
from ..eager import Gradients, Needs
from ..kept import compact, empty_compact, input_of, kind_of
from ..layout import in_format, memory_format
from ..step import Operands, Step
from ..steps import Integers, PaperStaircase, Sign, Ternary
from .prepare import BLOCK, DTYPES, Channels, arguments, channels_of, launch, numbers_of, varies

__all__ = ["backward", "forward", "reason_against"]

STEPS = (Sign, Ternary, Integers, PaperStaircase)


def reason_against(device: torch.device, step: Step, operands: Operands, rule: Rule) -> str | None:
    """Why this backend cannot compute a step."""
    interpreted = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")
    if device.type != "cuda" and not interpreted:
        return "it needs a CUDA device, or Triton's interpreter (TRITON_INTERPRET=1)"
    return (
        _reason_against_machine(device)
        or _reason_against_operands(device, operands)
        or _reason_against_formula(step, rule)
    )


@lru_cache(maxsize=64)
def _reason_against_machine(device: torch.device) -> str | None:
    try:
        from .arithmetic import INTERPRETED
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    if INTERPRETED:
        return None
    if device.type != "cuda":
        return "TRITON_INTERPRET was set after the kernels had been made"
    if torch.version.hip is not None:
        return "it was never tried on ROCm"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "Triton needs a device of compute capability 8.0"
    if not any(map(shutil.which, (os.environ.get("CC", "gcc"), "gcc", "clang"))):
        return "Triton needs a C compiler"
    return None


def _reason_against_operands(device: torch.device, operands: Operands) -> str | None:
    along = set()
    for name, operand in operands._asdict().items():
        if operand is None:
            continue
        if operand.device != device:
            return f"{name} is not on the device {device}"
        if operand.dtype not in DTYPES:
            return f"{name} is no floating-point number but {operand.dtype}"
        if name == "rounded":
            continue
        sizes = [(operand.dim() - i, size) for i, size in enumerate(operand.shape) if size != 1]
        if len(sizes) > (1 if name in ("scale", "zero_point") else 0):
            return f"{name} of shape {tuple(operand.shape)} varies along too many dimensions"
        along.update(sizes)
    return "scale and zero_point vary along different dimensions" if len(along) > 1 else None


def _reason_against_formula(step: Step, rule: Rule) -> str | None:
    from .slopes import SLOPES

    if type(step) not in STEPS:
        return f"{type(step).__name__} has no kernel"
    if type(rule) not in SLOPES:
        return f"rule {rule.name} has no Triton slope"
    return None


def forward(
    step: Step, x: Tensor, operands: Operands, rule: Rule, keep: str
) -> tuple[Tensor, Tensor]:
    """As :func:`.eager.forward`."""
    from .forward_kernel import forward_pass

    dtype = operands.result_type(x)
    y = torch.empty_like(x, dtype=dtype)
    if keep == "half":
        kept = compact(keep, step, x, operands, rule)
    else:
        kept = empty_compact(keep, step, x, rule)
    first, second = numbers_of(step, rule)
    if x.numel():
        operands = _dense(operands)
        given = {
            "x_ptr": x,
            "y_ptr": y,
            "code_ptr": kept if keep == "code" else None,
            "code_size": kept.numel() // _planes(rule),
            "first_number": first,
            "second_number": second / first if isinstance(step, PaperStaircase) else second,
            "block": BLOCK,
        }
        given |= arguments(step, operands, rule, x, dtype, channels_of(x, operands))
        launch(forward_pass, -(-x.numel() // BLOCK), x.device, given)
    return y, kept


def backward(
    step: Step,
    grad: Tensor,
    kept: Tensor | None,
    operands: Operands,
    rule: Rule,
    weighting: str,
    needs: Needs,
    batch_size: int,
) -> Gradients:
    """As :func:`.eager.backward`; kernels need no more than two launches."""
    from .backward_kernel import backward_pass
    from .sums import add_up

    if kept is not None:
        kept = input_of(kept, operands, grad.dtype)
    kind = kind_of(kept)
    x = kept if kept is not None and kind == "input" else grad
    dtype = torch.promote_types(operands.result_type(x), grad.dtype)
    grad = in_format(grad, memory_format(x))
    of_x = torch.empty_like(grad, dtype=dtype)
    sums = _places_of_sums(step, operands, needs if kind == "input" else Needs())
    if grad.numel() == 0:
        return Gradients(of_x, **{name: place.zero_() for name, place in sums.items()})
    operands = _dense(operands)
    channels = channels_of(x, operands)
    programs, chunks, tile = _tiles(channels if sums else Channels(1, 1, grad.numel()))
    partial = None
    if sums:
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        partial = grad.new_empty((4, channels.count, chunks), dtype=wide)
    first, second = numbers_of(step, rule)
    given: dict[str, Any] = {
        "grad_ptr": grad,
        "kept_ptr": kept,
        "of_x_ptr": of_x,
        "partial_ptr": partial,
        "code_size": code_size(step, rule, grad.numel()) // _planes(rule),
        "outer": channels.outer,
        "chunks": chunks,
        "first_number": first,
        "second_number": second,
        "batch_size": float(max(batch_size, 1)),
        "clamps": isinstance(step, Sign) and rule.clamp_width is not None,
        "mean": weighting == "mean",
        "kept": kind,
        "needs_scale": "scale" in sums,
        "needs_zero_point": "zero_point" in sums,
        "needs_bounds": "lo" in sums,
        **tile,
    }
    given |= arguments(step, operands, rule, x, dtype, channels)
    launch(backward_pass, programs, grad.device, given)
    if partial is not None:
        given = {
            "partial_ptr": partial,
            **{f"{name}_ptr": sums.get(name) for name in ("scale", "zero_point", "lo", "hi")},
            "channels": channels.count,
            "chunks": chunks,
            "scale_varies": varies(operands.scale),
            "zero_point_varies": varies(operands.zero_point),
            "block": BLOCK,
        }
        launch(add_up, channels.count, grad.device, given)
    return Gradients(of_x, **sums)


def _planes(rule: Rule) -> int:
    return 1 if rule.even else 2


def _dense(operands: Operands) -> Operands:
    """Operands whose values follow one another; most do already."""
    # The rounded input lies as the input does.
    rest = [None if each is None else each.contiguous() for each in operands[:4]]
    return Operands(*rest, rounded=operands.rounded)


def _places_of_sums(step: Step, operands: Operands, needs: Needs) -> dict[str, Tensor]:
    """Where the gradients of operands go that are asked for."""
    names = []
    if needs.scale and operands.scale is not None:
        names.append("scale")
    if isinstance(step, Integers):
        names += ["zero_point"] * needs.zero_point + ["lo", "hi"] * needs.bounds
    operand = {name: getattr(operands, name) for name in names}
    return {
        name: torch.empty(each.shape, dtype=each.dtype, device=each.device)
        for name, each in operand.items()
    }


def _tiles(channels: Channels) -> tuple[int, int, dict[str, Any]]:
    """How many programs there are, how many for each channel, and the elements of one."""
    outer, count, inner = channels
    if count == 1:
        programs = -(-outer * inner // BLOCK)
        return programs, programs, {"layout": "flat", "height": 1, "width": BLOCK}
    if inner > 1:
        width = min(_power_of_two(inner), BLOCK)
        height = min(_power_of_two(outer), BLOCK // width)
        chunks = -(-outer // height) * -(-inner // width)
        return count * chunks, chunks, {"layout": "rows", "height": height, "width": width}
    width = min(_power_of_two(count), 64)
    height = min(_power_of_two(outer), BLOCK // width)
    chunks = -(-outer // height)
    return (
        -(-count // width) * chunks,
        chunks,
        {"layout": "columns", "height": height, "width": width},
    )


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
