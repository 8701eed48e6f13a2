"""What the kernels cannot compute, and why."""

import os
import shutil
from functools import lru_cache

import torch

from ....rules import Rule
from ...registered_steps import Integers, PaperStaircase, Sign, Ternary
from ...step import Operands, Step
from .prepare import DTYPES

# What torch 2.11 brings. Older ones were seen to lose sums, in Triton's interpreter.
SINCE = (3, 6)
STEPS = (Sign, Ternary, Integers, PaperStaircase)


def reason_against(device: torch.device, step: Step, operands: Operands, rule: Rule) -> str | None:
    """Why this backend cannot compute a step."""
    if device.type != "cuda" and not _interpreted():
        return "it needs a CUDA device, or Triton's interpreter (TRITON_INTERPRET=1)"
    tensors = tuple(
        None if each is None else (each.device, each.dtype, each.shape) for each in operands
    )
    return _reason_against(device, type(step), type(rule), rule.name, tensors)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


# It is asked at each step, and the answer does not change.
@lru_cache(maxsize=1024)
def _reason_against(
    device: torch.device, step: type[Step], rule: type[Rule], name: str, tensors: tuple
) -> str | None:
    return (
        _reason_against_machine(device)
        or _reason_against_operands(device, tensors)
        or _reason_against_formula(step, rule, name)
    )


@lru_cache(maxsize=64)
def _reason_against_machine(device: torch.device) -> str | None:
    try:
        import triton  # pyright: ignore[reportMissingImports]

        from .arithmetic import INTERPRETED
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    if tuple(map(int, triton.__version__.split(".")[:2])) < SINCE:
        return f"the kernels need Triton 3.6 (torch 2.11), and this is {triton.__version__}"
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


def _reason_against_operands(device: torch.device, tensors: tuple) -> str | None:
    along = set()
    for name, tensor in zip(Operands._fields, tensors, strict=True):
        if tensor is None:
            continue
        on, dtype, shape = tensor
        if on != device:
            return f"{name} is not on the device {device}"
        if dtype not in DTYPES:
            return f"{name} is no floating-point number but {dtype}"
        if name == "rounded":
            continue
        sizes = [(len(shape) - i, size) for i, size in enumerate(shape) if size != 1]
        if len(sizes) > (1 if name in ("scale", "zero_point") else 0):
            return f"{name} of shape {tuple(shape)} varies along too many dimensions"
        along.update(sizes)
    return "scale and zero_point vary along different dimensions" if len(along) > 1 else None


def _reason_against_formula(step: type[Step], rule: type[Rule], name: str) -> str | None:
    from .slopes import SLOPES

    if step not in STEPS:
        return f"{step.__name__} has no kernel"
    if rule not in SLOPES:
        return f"rule {name} has no Triton slope"
    return None
