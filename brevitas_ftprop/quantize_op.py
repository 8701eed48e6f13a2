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
    Gradients,
    Layout,
    Needs,
    Operands,
    choose_backend,
    empty_compact,
    in_layout,
    kind_of,
    layout_of,
    parse_step,
    what_to_keep,
)
from .rules import get_rule

__all__ = ["is_unseen", "quantize"]

_below_autograd = torch._C._AutoDispatchBelowAutograd
PLAIN = {Tensor, torch.nn.Parameter, type(None)}

# Tensors first, then strings: what a step computes, by which rule, and in which way. ``saved`` is
# "exact" or "compact" to callers; autograd makes of it what is to be kept
# (:mod:`.kernels.saved_forms`), and without autograd nothing is.
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
    layout = layout_of(x)
    x = in_layout(x, layout)
    rounded = None if rounded is None else in_layout(rounded, layout)
    operands = Operands(scale, zero_point, lo, hi, rounded)
    the_step, the_rule = parse_step(step), get_rule(rule)
    chosen = choose_backend(backend, x.device, the_step, operands, the_rule)
    return chosen.forward(the_step, x, operands, the_rule, saved)


@torch.library.register_fake("brevitas_ftprop::quantize", lib=_library)
def _(x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved, backend):
    y = torch.empty_like(x)
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
    operands = Operands(scale, zero_point, lo, hi, rounded)
    needs = Needs(scale_learns, zero_point_learns, bounds_learn)
    gradients = _gradients(grad, kept, operands, step, rule, weighting, backend, batch_size, needs)
    return tuple(grad.new_empty(0) if each is None else each for each in gradients)


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
    grad_x = in_layout(torch.empty_like(grad), _layout_of_gradient(grad, kept))
    return (grad_x, *(nothing | sums).values())


def _gradients(
    grad: Tensor,
    kept: Tensor | None,
    operands: Operands,
    step: str,
    rule: str,
    weighting: str,
    backend: str,
    batch_size: int,
    needs: Needs,
) -> Gradients:
    layout = _layout_of_gradient(grad, kept)
    if kept is not None and kind_of(kept) != "code":
        kept = in_layout(kept, layout)
        if operands.rounded is not None:
            operands = operands._replace(rounded=in_layout(operands.rounded, layout))
    the_step, the_rule = parse_step(step), get_rule(rule)
    chosen = choose_backend(backend, grad.device, the_step, operands, the_rule)
    grad_x, *sums = chosen.backward(
        the_step, grad, kept, operands, the_rule, weighting, needs, batch_size
    )
    # In the dtypes that compilers are promised, which otherwise drop the casts behind this.
    totals = (
        None if total is None or operand is None else total.to(operand.dtype)
        for total, operand in zip(sums, operands, strict=False)
    )
    return Gradients(in_layout(grad_x.to(grad.dtype), layout), *totals)


def _layout_of_gradient(grad: Tensor, kept: Tensor | None) -> Layout:
    return layout_of(grad if kept is None or kind_of(kept) == "code" else kept)


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
        compute: Any = _operator if as_operator else _quantize
        with _below_autograd():
            y, compact = compute(x, *operands, step, rule, weighting, keep, backend)
        kept = {"input": x, "half": compact, "code": compact, "nothing": None}[keep]
        rounded = operands[4] if keep in ("input", "half") else None
        ctx.save_for_backward(kept, *operands[:4], rounded)
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
        if kind_of(kept) == "code":
            # The code lies in memory as the input did.
            grad = in_layout(grad, ctx.layout)
        if not torch.is_grad_enabled() and is_unseen(grad, kept):
            with _below_autograd():
                grad_x, *sums = _gradients(
                    grad,
                    kept,
                    Operands(*operands),
                    *ctx.options,
                    batch_size=ctx.batch_size,
                    needs=needs,
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
        return _Quantize.apply(*inputs, True)
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
    x: Tensor,
    operands: Operands,
    step: str,
    rule: str,
    weighting: str,
    saved: str,
    backend: str,
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
        return _quantize(*inputs)[0]
