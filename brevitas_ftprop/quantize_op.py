"""The one operator of torch's that all quantization steps are, and its gradient.

``brevitas_ftprop::quantize`` takes rule and step as strings, so that compilers, exporters and
TorchScript have one node for a quantizer; which backend computes it is settled when it runs.
"""

import torch
from torch import Tensor

from .kernels import (
    Needs,
    Operands,
    choose_backend,
    empty_compact,
    in_format,
    kind_of,
    memory_format,
    parse_step,
    what_to_keep,
)
from .rules import get_rule

__all__ = ["quantize"]

_below_autograd = torch._C._AutoDispatchBelowAutograd

# Tensors first, then strings: what a step computes, by which rule, and in which way. ``saved`` is
# "exact" or "compact" to callers; autograd makes of it what is to be kept (:mod:`.kernels.kept`),
# and without autograd nothing is.
_OPERANDS = "Tensor? scale, Tensor? zero_point, Tensor? lo, Tensor? hi, Tensor? rounded"
_OPTIONS = "str step, str rule"
_library = torch.library.Library("brevitas_ftprop", "DEF")
_library.define(
    f"quantize(Tensor x, {_OPERANDS}, {_OPTIONS}, str weighting, str saved, str backend)"
    " -> (Tensor y, Tensor compact)"
)
_library.define(
    f"quantize_backward(Tensor grad, Tensor? kept, {_OPERANDS}, {_OPTIONS}, str weighting,"
    " str backend, SymInt batch_size, bool scale_learns, bool zero_point_learns,"
    " bool bounds_learn) -> (Tensor x, Tensor scale, Tensor zero_point, Tensor lo, Tensor hi)"
)


@torch.library.impl(_library, "quantize", "CompositeExplicitAutograd")
def _quantize(x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved, backend):
    form = memory_format(x)
    x = in_format(x, form)
    rounded = None if rounded is None else in_format(rounded, form)
    operands = Operands(scale, zero_point, lo, hi, rounded)
    the_step, the_rule = parse_step(step), get_rule(rule)
    chosen = choose_backend(backend, x.device, the_step, operands, the_rule)
    return chosen.forward(the_step, x, operands, the_rule, saved)


@torch.library.register_fake("brevitas_ftprop::quantize", lib=_library)
def _(x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved, backend):
    y = in_format(torch.empty_like(x), memory_format(x))
    compact = empty_compact(saved, parse_step(step), y, get_rule(rule))
    return y.to(Operands(scale, zero_point).result_type(x)), compact


@torch.library.impl(_library, "quantize_backward", "CompositeExplicitAutograd")
def _quantize_backward(
    grad,
    kept,
    scale,
    zero_point,
    lo,
    hi,
    rounded,
    step,
    rule,
    weighting,
    backend,
    batch_size,
    scale_learns,
    zero_point_learns,
    bounds_learn,
):
    form = _form_of_gradient(grad, kept)
    if kept is not None and kind_of(kept) != "code":
        kept = in_format(kept, form)
        rounded = None if rounded is None else in_format(rounded, form)
    operands = Operands(scale, zero_point, lo, hi, rounded)
    what = parse_step(step), operands, get_rule(rule)
    chosen = choose_backend(backend, grad.device, *what)
    needs = Needs(scale_learns, zero_point_learns, bounds_learn)
    gradients = chosen.backward(
        what[0], grad, kept, operands, what[2], weighting, needs, batch_size
    )
    # In the dtypes that compilers are promised, which otherwise drop the casts behind this.
    sums = (
        grad.new_empty(0) if total is None or operand is None else total.to(operand.dtype)
        for total, operand in zip(gradients[1:], operands, strict=False)
    )
    return in_format(gradients.x.to(grad.dtype), form), *sums


@torch.library.register_fake("brevitas_ftprop::quantize_backward", lib=_library)
def _(
    grad,
    kept,
    scale,
    zero_point,
    lo,
    hi,
    rounded,
    step,
    rule,
    weighting,
    backend,
    batch_size,
    scale_learns,
    zero_point_learns,
    bounds_learn,
):
    asked = {
        "scale": scale if scale_learns else None,
        "zero_point": zero_point if zero_point_learns else None,
        "lo": lo if bounds_learn else None,
        "hi": hi if bounds_learn else None,
    }
    nothing = {name: grad.new_empty(0) for name in asked}
    sums = {name: torch.empty_like(each) for name, each in asked.items() if each is not None}
    grad_x = in_format(torch.empty_like(grad), _form_of_gradient(grad, kept))
    return (grad_x, *(nothing | sums).values())


def _form_of_gradient(grad: Tensor, kept: Tensor | None) -> torch.memory_format:
    return memory_format(grad if kept is None or kind_of(kept) == "code" else kept)


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *rest):
        *operands, step, rule, weighting, saved, backend = rest
        # Settled when it runs: a graph may have been made before a scale began to learn.
        learns = any(ctx.needs_input_grad[1:5])
        keep = what_to_keep(parse_step(step), get_rule(rule), saved, x.dtype, learns=learns)
        with _below_autograd():
            y, compact = quantize.default(x, *operands, step, rule, weighting, keep, backend)
        kept = {"input": x, "half": compact, "code": compact, "nothing": None}[keep]
        rounded = operands[4] if keep in ("input", "half") else None
        ctx.save_for_backward(kept, *operands[:4], rounded)
        ctx.options = step, rule, weighting, backend
        ctx.dtype, ctx.form = x.dtype, memory_format(x)
        ctx.batch_size = x.shape[0] if x.dim() else 1
        ctx.mark_non_differentiable(compact)
        return y, compact

    @staticmethod
    def backward(ctx, grad, _):
        kept, *operands = ctx.saved_tensors
        _, scale_learns, zero_point_learns, lo_learns, hi_learns, *_ = ctx.needs_input_grad
        sums_to_find = scale_learns, zero_point_learns, lo_learns or hi_learns
        if kind_of(kept) == "code":
            # The code lies in memory as the input did.
            grad = in_format(grad, ctx.form)
        grad_x, *sums = quantize_backward.default(
            grad, kept, *operands, *ctx.options, ctx.batch_size, *sums_to_find
        )
        learns = scale_learns, zero_point_learns, lo_learns, hi_learns
        sums = [total if wanted else None for total, wanted in zip(sums, learns, strict=True)]
        return grad_x.to(ctx.dtype), *sums, *(None,) * 6


class _GradientOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):
        with _below_autograd():
            return quantize_backward.default(*inputs)

    @staticmethod
    def backward(ctx, *gradients):
        raise RuntimeError("a target rule's gradient can be differentiated once only")


# What torch.library.register_autograd makes of the same functions costs 70 us a call.
def _register_autograd(name: str, function: type[torch.autograd.Function]) -> None:
    operator = getattr(torch.ops.brevitas_ftprop, name).default

    @torch.library.impl(_library, name, "Autograd")
    def _(*inputs):
        learns = (isinstance(each, Tensor) and each.requires_grad for each in inputs)
        if torch.is_grad_enabled() and any(learns):
            return function.apply(*inputs)
        with _below_autograd():
            return operator(*inputs)


quantize = torch.ops.brevitas_ftprop.quantize
quantize_backward = torch.ops.brevitas_ftprop.quantize_backward
_register_autograd("quantize", _Quantize)
_register_autograd("quantize_backward", _GradientOnce)
