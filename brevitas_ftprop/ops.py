"""The quantization steps as differentiable operators, whose backward passes ask a target rule.

All are one operator of torch's, ``brevitas_ftprop::quantize``, with its gradient: to compilers,
exporters and TorchScript (``BREVITAS_JIT=1``) it is one node, whose rule and step are strings.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from .kernels import (
    STAIRCASE_FORMS,
    Integers,
    Needs,
    Operands,
    PaperStaircase,
    Ternary,
    choose_backend,
    codable,
    code_size,
    constant,
    in_format,
    memory_format,
    parse_step,
)
from .rules import Rule, get_rule
from .targets import check_weighting

Op = TypeVar("Op", bound=Callable[..., Tensor])

SAVED_FORMS = ("exact", "compact")

__all__ = [
    "SAVED_FORMS",
    "binary_sign",
    "check_options",
    "int_quantize",
    "paper_staircase",
    "ternary_step",
]


def _called_from_script(function: Op) -> Op:
    """Have TorchScript call the function in Python instead of compiling it."""
    return torch.jit.ignore(function)  # pyright: ignore[reportArgumentType, reportReturnType]


def check_options(rule: str | Rule, weighting: str, staircase: str, saved: str = "exact") -> str:
    """Validate the options that every quantizer takes, and return the rule's canonical spec.

    Raises:
        ValueError: for an unknown rule, weighting, staircase form or saved form.

    >>> check_options("SSTE", "grad", "single")
    'saturated_ste'
    """
    check_weighting(weighting)
    if staircase not in STAIRCASE_FORMS:
        raise ValueError(
            f"staircase must be one of {', '.join(STAIRCASE_FORMS)}, not {staircase!r}"
        )
    if saved not in SAVED_FORMS:
        raise ValueError(f"saved must be one of {', '.join(SAVED_FORMS)}, not {saved!r}")
    return get_rule(rule).spec


def _refuse_scaled_loss(x: Tensor, weighting: str) -> None:
    # The 1/N weight does not follow a GradScaler's factor, which comes with float16 training:
    # unscaling the gradients would then shrink these by that factor. A backward pass cannot tell a
    # scaled loss from a large one, so a scaler in another dtype, where none is needed, is not seen.
    if weighting != "mean":
        return
    half = torch.is_autocast_enabled(x.device.type) and (
        torch.get_autocast_dtype(x.device.type) is torch.float16
    )
    if half or x.dtype is torch.float16:
        raise ValueError(
            'weighting="mean" does not follow the loss scaling that float16 training needs; '
            'use weighting="grad", or train in bfloat16 or float32'
        )


# Tensors first, then strings: what a step computes, by which rule, and in which way.
_OPERANDS = "Tensor? scale, Tensor? zero_point, Tensor? lo, Tensor? hi, Tensor? rounded"
_OPTIONS = "str step, str rule"
_library = torch.library.Library("brevitas_ftprop", "DEF")
_library.define(
    f"quantize(Tensor x, {_OPERANDS}, {_OPTIONS}, str weighting, str saved,"
    " bool operands_learn, str backend) -> (Tensor y, Tensor code)"
)
_library.define(
    f"quantize_backward(Tensor grad, Tensor? kept, {_OPERANDS}, {_OPTIONS}, str weighting,"
    " str backend, SymInt batch_size, bool scale_learns, bool zero_point_learns,"
    " bool bounds_learn) -> (Tensor x, Tensor scale, Tensor zero_point, Tensor lo, Tensor hi)"
)


def _what_to_keep(step: str, rule: Rule, saved: str, operands_learn: bool) -> str:
    """``"nothing"``, ``"code"`` or ``"input"``: the least that backward can do with."""
    if operands_learn:
        return "input"
    if constant(parse_step(step), rule):
        return "nothing"
    return "code" if saved == "compact" and codable(rule) else "input"


@torch.library.impl(_library, "quantize", "CompositeExplicitAutograd")
def _quantize(
    x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved, operands_learn, backend
):
    form = memory_format(x)
    x = in_format(x, form)
    rounded = None if rounded is None else in_format(rounded, form)
    operands = Operands(scale, zero_point, lo, hi, rounded)
    what = parse_step(step), operands, get_rule(rule)
    code = _what_to_keep(step, what[2], saved, operands_learn) == "code"
    return choose_backend(backend, x.device, *what).forward(what[0], x, operands, what[2], code)


@torch.library.register_fake("brevitas_ftprop::quantize", lib=_library)
def _(x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved, operands_learn, backend):
    y = in_format(torch.empty_like(x), memory_format(x))
    the_rule = get_rule(rule)
    code = _what_to_keep(step, the_rule, saved, operands_learn) == "code"
    size = code_size(parse_step(step), the_rule, x.numel()) if code else 0
    dtype = Operands(scale, zero_point).result_type(x)
    return y.to(dtype), x.new_empty(size, dtype=torch.uint8)


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
    if kept is not None and kept.dtype is not torch.uint8:
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
    return memory_format(grad if kept is None or kept.dtype is torch.uint8 else kept)


def _setup_context(ctx, inputs, output):
    x, *operands, step, rule, weighting, saved, operands_learn, backend = inputs
    keep = _what_to_keep(step, get_rule(rule), saved, operands_learn)
    kept = {"input": x, "code": output[1], "nothing": None}[keep]
    rounded = operands[4] if keep == "input" else None
    ctx.save_for_backward(kept, *operands[:4], rounded)
    ctx.options = step, rule, weighting, backend
    ctx.dtype, ctx.form = x.dtype, memory_format(x)
    ctx.batch_size = x.shape[0] if x.dim() else 1
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad, _):
    kept, *operands = ctx.saved_tensors
    _, scale_learns, zero_point_learns, lo_learns, hi_learns, *_ = ctx.needs_input_grad
    sums_to_find = scale_learns, zero_point_learns, lo_learns or hi_learns
    if kept is not None and kept.dtype is torch.uint8:
        # The code lies in memory as the input did.
        grad = in_format(grad, ctx.form)
    grad_x, *sums = torch.ops.brevitas_ftprop.quantize_backward(
        grad, kept, *operands, *ctx.options, ctx.batch_size, *sums_to_find
    )
    learns = scale_learns, zero_point_learns, lo_learns, hi_learns
    sums = [
        total.to(operand.dtype) if wanted else None
        for total, operand, wanted in zip(sums, operands, learns, strict=False)
    ]
    return grad_x.to(ctx.dtype), *sums, *(None,) * 7


torch.library.register_autograd(
    "brevitas_ftprop::quantize", _backward, setup_context=_setup_context, lib=_library
)


def _refuse_second_derivative(ctx, *gradients):
    raise RuntimeError("a target rule's gradient can be differentiated once only")


torch.library.register_autograd(
    "brevitas_ftprop::quantize_backward", _refuse_second_derivative, lib=_library
)


def _fits(operand: Tensor, x: Tensor) -> bool:
    if operand.dim() > x.dim():
        return operand.numel() == 1
    sizes = zip(reversed(operand.shape), reversed(x.shape), strict=False)
    return all(size in (1, of_x) for size, of_x in sizes)


def _call(
    x: Tensor,
    operands: Operands,
    step: str,
    rule: str,
    weighting: str,
    saved: str,
    backend: str,
) -> Tensor:
    _refuse_scaled_loss(x, weighting)
    operands_learn = any(each is not None and each.requires_grad for each in operands)
    if saved not in SAVED_FORMS:
        raise ValueError(f"saved must be one of {', '.join(SAVED_FORMS)}, not {saved!r}")
    for operand in (operands.scale, operands.zero_point):
        # Brevitas asks quantizers for their scales by a number.
        if operand is not None and x.dim() and not _fits(operand, x):
            raise ValueError(
                f"a scale or zero-point of shape {tuple(operand.shape)} does not broadcast to an "
                f"input of shape {tuple(x.shape)}"
            )
    if not (torch.is_grad_enabled() and x.requires_grad):
        # No code of the slopes is needed then.
        saved = "exact"
    y, _ = torch.ops.brevitas_ftprop.quantize(
        x, *operands, step, rule, weighting, saved, operands_learn, backend
    )
    return y


@_called_from_script
def binary_sign(
    x: Tensor,
    scale: Tensor,
    rule: str,
    weighting: str,
    saved: str = "exact",
    backend: str = "auto",
) -> Tensor:
    """Scaled sign with a target rule's gradient.

    Forward ``y = s·sign(x)`` with sign(±0) = +1; backward ``∂L/∂x = s·w·t·l'(t·x/s)`` and
    ``∂L/∂s = Σ g·sign(x)``, to which the saturated rule adds ``s·(Σ_{x>s} g - Σ_{x<-s} g)``,
    the ends of the clamp that it differentiates.

    Args:
        x: pre-activation, any shape and float dtype.
        scale: positive, broadcastable to ``x``.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        saved: what is kept for backward, ``"exact"`` (the input) or ``"compact"`` (a code of the
            slopes, while nothing but ``x`` learns).
        backend: ``"auto"`` or the name of a backend.

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow, and for a
            backend that cannot compute this.

    >>> x = torch.tensor([-2.0, -0.0, 0.5], requires_grad=True)
    >>> y = binary_sign(x, torch.tensor(1.0), "saturated_ste", "grad")
    >>> y.tolist()
    [-1.0, 1.0, 1.0]
    >>> y.sum().backward(); x.grad.tolist()
    [0.0, 1.0, 1.0]

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573; scale gradients as in
        ``brevitas.core.quant.ClampedBinaryQuant``.
    """
    return _call(x, Operands(scale), "sign", rule, weighting, saved, backend)


@_called_from_script
def int_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    lo: Tensor,
    hi: Tensor,
    rule: str,
    weighting: str,
    form: str,
    rounding: str = "round",
    rounded: Tensor | None = None,
    relu: bool = False,
    saved: str = "exact",
    backend: str = "auto",
) -> Tensor:
    """Integer quantizer of k bits with a target rule's gradient.

    Forward ``y = (clamp(round(v), lo, hi) - z)·s`` with v = x/s + z. Backward, in the *single*
    form, ``∂L/∂x = w·t·l'(t·u)`` with one unit ``u = (v - (lo + hi)/2)/((hi - lo + 1)/2)`` over the
    whole range, |u| ≤ 1 being exactly where ``lo ≤ round(v) ≤ hi``; in the *sum* form
    ``Σ_k ½·w·t·l'(t·(v - θ_k))`` over the thresholds θ_k = lo+½ … hi-½. With S the slope in this,
    ``∂L/∂s = Σ g·((q - z) - S·x/s)`` and ``∂L/∂z = Σ g·s·(S - 1)``, q being the integer; the units
    that are clipped give ``∂L/∂lo`` and ``∂L/∂hi``, their g·s.

    Args:
        x: pre-activation, any shape and float dtype.
        scale, zero_point: broadcastable to ``x``, the scale positive.
        lo, hi: smallest and largest integer, 0-dimensional; they may depend on a learned bit width.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``; the 1/N weight is that of the output's gradient.
        form: ``"single"`` or ``"sum"``.
        rounding: ``"round"`` (half to even), ``"ceil"``, ``"floor"`` or ``"trunc"``.
        rounded: v as another rounding rounds it, without gradient; in place of ``rounding``.
        relu: whether max(x, 0) takes the place of x, in the same pass.
        saved, backend: as for :func:`binary_sign`.

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow, and for a
            backend that cannot compute this.

    >>> x = torch.tensor([-1.0, 0.4, 3.6], requires_grad=True)
    >>> one, zero, three = torch.tensor(1.0), torch.tensor(0.0), torch.tensor(3.0)
    >>> y = int_quantize(x, one, zero, zero, three, "saturated_ste", "grad", "single")
    >>> y.tolist()
    [0.0, 0.0, 3.0]
    >>> y.sum().backward(); x.grad.tolist()
    [0.0, 1.0, 0.0]

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4; operations in the order of
        ``brevitas.core.quant.IntQuant``.
    """
    step = Integers(rounding, form, relu).spec
    operands = Operands(scale, zero_point, lo, hi, rounded)
    return _call(x, operands, step, rule, weighting, saved, backend)


@_called_from_script
def ternary_step(
    x: Tensor,
    scale: Tensor,
    threshold: float,
    rule: str,
    weighting: str,
    form: str,
    saved: str = "exact",
    backend: str = "auto",
) -> Tensor:
    """Scaled ternary step with a target rule's gradient.

    Forward ``y = s·sign(x)·[|x| > θ·s]``. Backward ``s`` times the gradient of a staircase with
    thresholds ±θ: with v = x/(2θs), *single* ``w·t·l'(t·2v/3)``, *sum*
    ``½·w·t·(l'(t·(v+½)) + l'(t·(v-½)))``; ``∂L/∂s = Σ g·y/s``.

    Args:
        x: pre-activation, any shape and float dtype.
        scale: positive, broadcastable to ``x``.
        threshold: θ > 0, in units of the scale.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        form: ``"single"`` or ``"sum"``.
        saved, backend: as for :func:`binary_sign`.

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow, and for a
            backend that cannot compute this.

    >>> x = torch.tensor([-2.0, 0.5, 0.6], requires_grad=True)
    >>> ternary_step(x, torch.tensor(1.0), 0.5, "soft_hinge", "grad", "single").tolist()
    [-1.0, 0.0, 1.0]

    References:
        ``brevitas.core.quant.TernaryQuant`` (forward); its own gradient, 0 in the dead zone and
        1 outside, is none of the target rules.
    """
    step = Ternary(threshold, form).spec
    return _call(x, Operands(scale), step, rule, weighting, saved, backend)


@_called_from_script
def paper_staircase(
    x: Tensor,
    steps: int,
    max_val: float,
    rule: str,
    weighting: str,
    form: str,
    saved: str = "exact",
    backend: str = "auto",
) -> Tensor:
    """The paper's staircase activation ("qReLU") with a target rule's gradient.

    Forward ``M·clamp(ceil(x·(n-1)), 0, n)/n``: levels M·k/n, thresholds k/(n-1) (M=1; n=3 is the
    paper's 2-bit activation, n=5 its 3-bit one). Backward M times, in the *single* form,
    ``w·t·l'(t·(2x-1))``; in the *sum* form ``1/n·Σ_k w·t·l'(t·(x - k/(n-1)))``, the reference's
    own sum.

    Args:
        x: pre-activation, any shape and float dtype.
        steps: n ≥ 2.
        max_val: M > 0, the highest level; 1 in the paper.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        form: ``"single"`` or ``"sum"``.
        saved, backend: as for :func:`binary_sign`.

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow, and for a
            backend that cannot compute this.

    >>> x = torch.tensor([-0.1, 0.0, 0.2, 0.5, 0.9, 1.5], requires_grad=True)
    >>> y = paper_staircase(x, 3, 1.0, "saturated_ste", "grad", "single")
    >>> (3 * y).round().int().tolist()
    [0, 0, 1, 1, 2, 3]
    >>> y.sum().backward(); x.grad.tolist()
    [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4; afriesen/ftprop
        ``activations.py`` (``Staircase``).
    """
    step = PaperStaircase(steps, max_val, form).spec
    return _call(x, Operands(), step, rule, weighting, saved, backend)
