"""The eager formulas made one loop by ``torch.compile``, for who has a compiler and asks for it.

Every rule has this backend, a user's included. Each pair of step and rule is compiled at its first
use, which takes seconds, and so is each new setting of a scheduled rule: hence it is never chosen
by itself. Exponentials are the compiler's, so that elements equal eager's to a few ulps. Bits and
halves, which the compiler would take one by one on a CPU, are left to :mod:`.blocked`.
"""

import inspect
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...rules import Rule
from ..codes import is_bits
from ..layout import in_layout, layout_of
from ..saved_forms import Keep, keep_of
from ..step import Operands, Step
from . import blocked, eager
from .eager import Asked, Gradients, Needs

# Older compilers can trace neither these formulas nor Brevitas' quantized tensors.
# On Python 3.13 torch 2.11 compiles the collection of statistics to other ones.
SINCE = "2.11" if sys.version_info < (3, 13) else "2.12"
COMPILABLE = torch.__version__ >= SINCE
LIMIT = 1 << 16
# torch 2.11 knows the limit only as a setting of the whole compiler.
TAKES_LIMIT = "recompile_limit" in inspect.signature(torch.compile).parameters


def reason_against(device: torch.device, step: Step, operands: Operands, rule: Rule) -> str | None:
    """Why this backend cannot compute a step: a missing or old compiler."""
    if not COMPILABLE:
        return f"compiling needs torch {SINCE}, and this is {torch.__version__}"
    compiler = shlex.split(os.environ.get("CXX") or "g++")[0]
    if device.type == "cpu" and shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler}: install g++, or name one in the variable CXX"
    if step.form == "sum" and step.name == "integers":
        return "the number of thresholds is not known to the compiler"
    return None


def forward(
    step: Step, x: Tensor, operands: Operands, rule: Rule, keep: Keep
) -> tuple[Tensor, Tensor]:
    """As :func:`.eager.forward`."""
    if not x.numel() or _is_slow(keep, step, rule, x.device):
        return blocked.forward(step, x, operands, rule, keep)
    if not keep.is_made:
        # All others make nothing to keep: one function, compiled once.
        keep = Keep.NOTHING
    return _forward(step, rule, keep)(x, *operands)


def backward(
    step: Step, grad: Tensor, kept: Tensor | None, operands: Operands, rule: Rule, asked: Asked
) -> Gradients:
    """As :func:`.eager.backward`."""
    if not grad.numel() or _is_slow(keep_of(kept), step, rule, grad.device):
        return blocked.backward(step, grad, kept, operands, rule, asked)
    if kept is not None and keep_of(kept) is not Keep.CODE:
        grad = in_layout(grad, layout_of(kept))
    gradients = _backward(step, rule, *asked[:2])(grad, kept, asked.batch_size, *operands)
    return Gradients(*gradients)


def _is_slow(keep: Keep, step: Step, rule: Rule, device: torch.device) -> bool:
    """Whether the compiler would take the elements one by one."""
    bits = keep is Keep.CODE and is_bits(step, rule)
    return device.type == "cpu" and (bits or keep is Keep.HALF)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    # The compiler counts how often it compiles a piece of code: each function gets one of its own.
    function.__code__ = function.__code__.replace()  # pyright: ignore[reportFunctionMemberAccess]
    options: dict[str, Any] = {"recompile_limit": LIMIT} if TAKES_LIMIT else {}
    compiled = torch.compile(function, dynamic=True, fullgraph=True, **options)
    return compiled if TAKES_LIMIT else torch._dynamo.config.patch(cache_size_limit=LIMIT)(compiled)


@lru_cache(maxsize=512)
def _forward(step: Step, rule: Rule, keep: Keep) -> Callable[..., Any]:
    def run(x, *operands):
        return eager.forward(step, x, Operands(*operands), rule, keep)

    return _compile(run)


@lru_cache(maxsize=512)
def _backward(step: Step, rule: Rule, weighting: str, needs: Needs) -> Callable[..., Any]:
    def run(grad, kept, batch_size, *operands):
        asked = Asked(weighting, needs, batch_size)
        return tuple(eager.backward(step, grad, kept, Operands(*operands), rule, asked))

    return _compile(run)
