"""The one operator of torch's that all quantization steps are, and its gradient.

``brevitas_ftprop::quantize`` takes rule and step as strings, so that compilers, exporters and
TorchScript have one node for a quantizer; which backend computes it is settled when it runs. Where
none of them looks on, :func:`quantize` computes what the operator would without calling it, which
on a small tensor takes longer than all else.
"""

from typing import Any

import torch
from torch import Tensor

from .dissolved import can_dissolve, dissolved
from .kernels import (
    Asked,
    Gradients,
    Keep,
    Layout,
    Needs,
    Operands,
    choose_backend,
    empty_compact,
    in_layout,
    keep_of,
    kept_of,
    layout_of,
    parse_step,
    what_to_keep,
)
from .rules import get_rule

_below_autograd = torch._C._AutoDispatchBelowAutograd
PLAIN = {Tensor, torch.nn.Parameter, type(None)}

# Tensors first, then strings: what a step computes, by which rule, and in which way. Callers say
# what is ``saved``, "exact" or "compact"; autograd makes of it what to ``keep``
# (:mod:`.kernels.saved_forms`), and without autograd nothing is kept.
_OPERANDS = "Tensor? scale, Tensor? zero_point, Tensor? lo, Tensor? hi, Tensor? rounded"
_OPTIONS = "str step, str rule, str weighting"
_library = torch.library.Library("brevitas_ftprop", "DEF")
_library.define(
    f'quantize(Tensor x, {_OPERANDS}, {_OPTIONS}, str saved, str backend, str keep="nothing")'
    " -> (Tensor y, Tensor compact)"
)
_library.define(
    f"quantize_backward(Tensor grad, Tensor? kept, {_OPERANDS}, {_OPTIONS}, str backend,"
    " SymInt batch_size, bool scale_learns, bool zero_point_learns, bool bounds_learn)"
    " -> (Tensor x, Tensor scale, Tensor zero_point, Tensor lo, Tensor hi)"
)


def _quantize(
    x: Tensor, operands: Operands, step: str, rule: str, backend: str, keep: Keep
) -> tuple[Tensor, Tensor]:
    layout = layout_of(x)
    x = in_layout(x, layout)
    if operands.rounded is not None:
        operands = operands._replace(rounded=in_layout(operands.rounded, layout))
    the_step, the_rule = parse_step(step), get_rule(rule)
    chosen = choose_backend(backend, x.device, the_step, operands, the_rule)
    return chosen.forward(the_step, x, operands, the_rule, keep)


@torch.library.impl(_library, "quantize", "CompositeExplicitAutograd")
def _(x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved, backend, keep="nothing"):
    operands = Operands(scale, zero_point, lo, hi, rounded)
    return _quantize(x, operands, step, rule, backend, Keep(keep))


@torch.library.register_fake("brevitas_ftprop::quantize", lib=_library)
def _(x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved, backend, keep="nothing"):
    y = torch.empty_like(x)
    compact = empty_compact(Keep(keep), parse_step(step), y, get_rule(rule))
    return y.to(Operands(scale, zero_point).result_type(x)), compact


@torch.library.impl(_library, "quantize_backward", "CompositeExplicitAutograd")
def _(grad, kept, *rest):
    *operands, step, rule, weighting, backend, batch_size, scale, zero_point, bounds = rest
    asked = Asked(weighting, Needs(scale, zero_point, bounds), batch_size)
    gradients = _gradients(grad, kept, Operands(*operands), step, rule, backend, asked)
    return tuple(grad.new_empty(0) if each is None else each for each in gradients)


@torch.library.register_fake("brevitas_ftprop::quantize_backward", lib=_library)
def _(grad, kept, *rest):
    needed = Needs(*rest[-3:]).names
    sums = [
        grad.new_empty(0) if operand is None or name not in needed else torch.empty_like(operand)
        for name, operand in zip(Operands._fields[:4], rest, strict=False)
    ]
    return (in_layout(torch.empty_like(grad), _layout_of_gradient(grad, kept)), *sums)


def _gradients(
    grad: Tensor,
    kept: Tensor | None,
    operands: Operands,
    step: str,
    rule: str,
    backend: str,
    asked: Asked,
) -> Gradients:
    layout = _layout_of_gradient(grad, kept)
    if kept is not None and keep_of(kept) is not Keep.CODE:
        kept = in_layout(kept, layout)
        if operands.rounded is not None:
            operands = operands._replace(rounded=in_layout(operands.rounded, layout))
    the_step, the_rule = parse_step(step), get_rule(rule)
    chosen = choose_backend(backend, grad.device, the_step, operands, the_rule)
    grad_x, *sums = chosen.backward(the_step, grad, kept, operands, the_rule, asked)
    # In the dtypes that compilers are promised, which otherwise drop the casts behind this.
    totals = (
        None if total is None or operand is None else total.to(operand.dtype)
        for total, operand in zip(sums, operands, strict=False)
    )
    return Gradients(in_layout(grad_x.to(grad.dtype), layout), *totals)


def _layout_of_gradient(grad: Tensor, kept: Tensor | None) -> Layout:
    return layout_of(grad if kept is None or keep_of(kept) is Keep.CODE else kept)


def is_unseen(*tensors: Tensor | None) -> bool:
    """Whether nothing would see that these tensors meet in an operator: no mode, tracer, compiler
    or transform, and no tensor of a class of its own.

    >>> is_unseen(torch.zeros(2), None)
    True
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
    ):
        return False
    return PLAIN.issuperset(map(type, tensors))


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *rest):
        *operands, step, rule, weighting, saved, backend, as_operator = rest
        # Settled when it runs: a graph may have been made before a scale began to learn.
        learns = any(ctx.needs_input_grad[1:5])
        keep = what_to_keep(parse_step(step), get_rule(rule), saved, x.dtype, learns=learns)
        with _below_autograd():
            if as_operator:
                options = step, rule, weighting, saved, backend, keep.value
                y, compact = _operator(x, *operands, *options)
            else:
                y, compact = _quantize(x, Operands(*operands), step, rule, backend, keep)
        rounded = None if keep in (Keep.CODE, Keep.NOTHING) else operands[4]
        ctx.save_for_backward(kept_of(keep, x, compact), *operands[:4], rounded)
        ctx.options = step, rule, weighting, backend
        ctx.dtype, ctx.layout = x.dtype, layout_of(x)
        ctx.batch_size = x.shape[0] if x.dim() else 1
        if not as_operator:
            return y
        ctx.mark_non_differentiable(compact)
        # Else a tensor as large as the code would be filled with zeros.
        ctx.set_materialize_grads(False)
        return y, compact

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return (None,) * 12
        kept, *operands = ctx.saved_tensors
        _, scale_learns, zero_point_learns, lo_learns, hi_learns, *_ = ctx.needs_input_grad
        needs = Needs(scale_learns, zero_point_learns, lo_learns or hi_learns)
        step, rule, weighting, backend = ctx.options
        if keep_of(kept) is Keep.CODE:
            # The code lies in memory as the input did.
            grad = in_layout(grad, ctx.layout)
        if not torch.is_grad_enabled() and is_unseen(grad, kept):
            asked = Asked(weighting, needs, ctx.batch_size)
            with _below_autograd():
                grad_x, *sums = _gradients(
                    grad, kept, Operands(*operands), step, rule, backend, asked
                )
        else:
            grad_x, *sums = _backward_operator(
                grad, kept, *operands, *ctx.options, ctx.batch_size, *needs
            )
        learns = scale_learns, zero_point_learns, lo_learns, hi_learns
        sums = [total if wanted else None for total, wanted in zip(sums, learns, strict=True)]
        return grad_x.to(ctx.dtype), *sums, *(None,) * 7


class _GradientOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):
        with _below_autograd():
            return _backward_operator(*inputs)

    @staticmethod
    def backward(ctx, *gradients):
        raise RuntimeError("a target rule's gradient can be differentiated once only")


def _learns(inputs) -> bool:
    return torch.is_grad_enabled() and any(
        isinstance(each, Tensor) and each.requires_grad for each in inputs
    )


# What torch.library.register_autograd makes of the same functions costs 70 us a call.
@torch.library.impl(_library, "quantize", "Autograd")
def _(*inputs):
    if _learns(inputs):
        return _Quantize.apply(*inputs[:11], True)
    with _below_autograd():
        return _operator(*inputs)


@torch.library.impl(_library, "quantize_backward", "Autograd")
def _(*inputs):
    if _learns(inputs):
        return _GradientOnce.apply(*inputs)
    with _below_autograd():
        return _backward_operator(*inputs)


_operator = torch.ops.brevitas_ftprop.quantize.default
_backward_operator = torch.ops.brevitas_ftprop.quantize_backward.default


def quantize(
    x: Tensor, operands: Operands, step: str, rule: str, weighting: str, saved: str, backend: str
) -> Tensor:
    """The quantized value: by the operator, or without it where nobody could tell.

    Args:
        x: pre-activation, any shape and float dtype.
        operands: of the step.
        step: spec of the step.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        saved: ``"exact"`` or ``"compact"``.
        backend: ``"auto"`` or the name of a backend.

    Raises:
        ValueError: for a backend that cannot compute this.

    >>> x, scale = torch.tensor([-0.2, 3.0]), torch.tensor(0.5)
    >>> quantize(x, Operands(scale), "sign", "soft_hinge", "grad", "exact", "auto")
    tensor([-0.5000,  0.5000])
    """
    inputs: tuple[Any, ...] = (x, *operands, step, rule, weighting, saved, backend)
    if torch.compiler.is_dynamo_compiling() and can_dissolve(step, backend):
        return dissolved(*inputs[:-1])
    if not is_unseen(x, *operands):
        return _operator(*inputs)[0]
    if _learns(inputs):
        return _Quantize.apply(*inputs, False)
    with _below_autograd():
        return _quantize(x, operands, step, rule, backend, Keep.NOTHING)[0]
