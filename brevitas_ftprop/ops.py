"""Autograd functions of the quantization steps, whose backward passes ask a target rule.

Rules cross this boundary as strings, so that TorchScript (``BREVITAS_JIT=1``) can call them.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .kernels import STAIRCASE_FORMS, clip_margin, staircase_gradient, unit_gradient
from .rules import Rule, get_rule
from .targets import check_weighting

Op = TypeVar("Op", bound=Callable[..., Tensor])

__all__ = ["binary_sign", "check_options", "int_staircase", "paper_staircase", "ternary_step"]


def _called_from_script(function: Op) -> Op:
    """Have TorchScript call the function in Python instead of compiling it."""
    return torch.jit.ignore(function)  # pyright: ignore[reportArgumentType, reportReturnType]


def check_options(rule: str | Rule, weighting: str, staircase: str) -> str:
    """Validate the options that every quantizer takes, and return the rule's canonical spec.

    Raises:
        ValueError: for an unknown rule, weighting or staircase form.

    >>> check_options("SSTE", "grad", "single")
    'saturated_ste'
    """
    check_weighting(weighting)
    if staircase not in STAIRCASE_FORMS:
        raise ValueError(
            f"staircase must be one of {', '.join(STAIRCASE_FORMS)}, not {staircase!r}"
        )
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


class _BinarySign(Function):
    @staticmethod
    def forward(ctx, x, scale, rule, weighting):
        ctx.save_for_backward(x, scale)
        ctx.rule, ctx.weighting = rule, weighting
        return ((x >= 0).to(x.dtype) * 2 - 1) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        rule = get_rule(ctx.rule)
        grad_x = grad_scale = None
        if ctx.needs_input_grad[0]:
            grad_x = unit_gradient(grad, x / scale, rule, ctx.weighting) * scale
            grad_x = grad_x.to(x.dtype)
        if ctx.needs_input_grad[1]:
            sign = (x >= 0).to(x.dtype) * 2 - 1
            grad_scale = (grad * sign).sum_to_size(scale.shape)
            if rule.clamp_width is not None:
                # The saturated rule is the gradient of a clamp at ±width·scale, whose ends move
                # with the scale.
                end = scale * rule.clamp_width
                grad_end = grad * end
                above = torch.where(x > end, grad_end, 0.0).sum_to_size(scale.shape)
                below = torch.where(x < -end, grad_end, 0.0).sum_to_size(scale.shape)
                grad_scale = grad_scale + above - below
            grad_scale = grad_scale.to(scale.dtype)
        return grad_x, grad_scale, None, None


@_called_from_script
def binary_sign(x: Tensor, scale: Tensor, rule: str, weighting: str) -> Tensor:
    """Scaled sign with a target rule's gradient.

    Forward ``y = s·sign(x)`` with sign(±0) = +1; backward ``∂L/∂x = s·w·t·l'(t·x/s)`` and
    ``∂L/∂s = Σ g·sign(x)``, to which the saturated rule adds ``s·(Σ_{x>s} g - Σ_{x<-s} g)``,
    the ends of the clamp that it differentiates.

    Args:
        x: pre-activation, any shape and float dtype.
        scale: positive, broadcastable to ``x``.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow.

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
    _refuse_scaled_loss(x, weighting)
    return _BinarySign.apply(x, scale, rule, weighting)


class _IntStaircase(Function):
    @staticmethod
    def forward(ctx, v, rounded, lo, hi, rule, weighting, form, step):
        ctx.rule, ctx.weighting, ctx.form = rule, weighting, form
        ctx.step = step if weighting == "mean" else None
        bounds_learn = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        z = v
        if form == "single":
            u = (2 * v - lo - hi) / (hi - lo + 1)
            z = clip_margin(u, rounded < lo, rounded > hi)
        ctx.save_for_backward(z, lo, hi, rounded if bounds_learn else None)
        y = torch.where(rounded > hi, hi.to(rounded.dtype), rounded)
        return torch.where(y < lo, lo.to(y.dtype), y)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, lo, hi, rounded = ctx.saved_tensors
        rule = get_rule(ctx.rule)
        grad_v = grad_lo = grad_hi = None
        if ctx.needs_input_grad[0]:
            if ctx.form == "single":
                grad_v = unit_gradient(grad, z, rule, ctx.weighting)
            else:
                thresholds = [k + 0.5 for k in range(int(lo), int(hi))]
                grad_v = staircase_gradient(grad, z, thresholds, 0.5, rule, ctx.weighting)
            if ctx.step is not None:
                # The incoming gradient is |g|·step; so has the weight that replaces it to be.
                grad_v = grad_v * ctx.step
            grad_v = grad_v.to(z.dtype)
        if rounded is not None:
            grad_lo = torch.where(rounded < lo, grad, 0.0).sum_to_size(lo.shape).to(lo.dtype)
            grad_hi = torch.where(rounded > hi, grad, 0.0).sum_to_size(hi.shape).to(hi.dtype)
        return grad_v, None, grad_lo, grad_hi, None, None, None, None


@_called_from_script
def int_staircase(
    v: Tensor,
    rounded: Tensor,
    lo: Tensor,
    hi: Tensor,
    rule: str,
    weighting: str,
    form: str,
    step: Tensor | None = None,
) -> Tensor:
    """Integer staircase of a k-bit quantizer with a target rule's gradient.

    Forward ``clamp(rounded, lo, hi)``; backward, in the *single* form, ``w·t·l'(t·u)`` with one
    unit ``u = (2v - lo - hi)/(hi - lo + 1)`` over the whole range, |u| ≤ 1 being exactly where
    ``lo ≤ rounded ≤ hi``; in the *sum* form ``Σ_k ½·w·t·l'(t·(v - θ_k))`` over the thresholds
    θ_k = lo+½ … hi-½. Scale and zero-point enter before and after, so autograd gives their
    gradients.

    Args:
        v: ``x/scale + zero_point``.
        rounded: ``v`` rounded to integers by the quantizer's own rounding, without gradient.
        lo, hi: smallest and largest integer, 0-dimensional; a learned bit width receives the
            gradient of the units that are clipped there.
        rule: spec of a registered rule.
        weighting: ``"grad"`` or ``"mean"``.
        form: ``"single"`` or ``"sum"``.
        step: value of one integer, the scale, without gradient; 1 if None. The 1/N weight, which
            is that of the output's gradient, is scaled by it.

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow.

    >>> v = torch.tensor([-1.0, 0.4, 3.6], requires_grad=True)
    >>> lo, hi = torch.tensor(0.0), torch.tensor(3.0)
    >>> y = int_staircase(v, v.detach().round(), lo, hi, "saturated_ste", "grad", "single")
    >>> y.tolist()
    [0.0, 0.0, 3.0]
    >>> y.sum().backward(); v.grad.tolist()
    [0.0, 1.0, 0.0]

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 4.
    """
    _refuse_scaled_loss(v, weighting)
    return _IntStaircase.apply(v, rounded, lo, hi, rule, weighting, form, step)


class _TernaryStep(Function):
    @staticmethod
    def forward(ctx, x, scale, threshold, rule, weighting, form):
        ctx.save_for_backward(x, scale)
        ctx.threshold, ctx.rule, ctx.weighting, ctx.form = threshold, rule, weighting, form
        return (x.abs() > threshold * scale).to(x.dtype) * torch.sign(x) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        rule = get_rule(ctx.rule)
        grad_x = grad_scale = None
        if ctx.needs_input_grad[0]:
            # In units in which the two thresholds lie at ±½, as an integer quantizer's do.
            v = x / scale * (0.5 / ctx.threshold)
            if ctx.form == "single":
                grad_x = unit_gradient(grad, v / 1.5, rule, ctx.weighting)
            else:
                grad_x = staircase_gradient(grad, v, [-0.5, 0.5], 0.5, rule, ctx.weighting)
            grad_x = (grad_x * scale).to(x.dtype)
        if ctx.needs_input_grad[1]:
            step = (x.abs() > ctx.threshold * scale).to(x.dtype) * torch.sign(x)
            grad_scale = (grad * step).sum_to_size(scale.shape).to(scale.dtype)
        return grad_x, grad_scale, None, None, None, None


@_called_from_script
def ternary_step(
    x: Tensor, scale: Tensor, threshold: float, rule: str, weighting: str, form: str
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

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow.

    >>> x = torch.tensor([-2.0, 0.5, 0.6], requires_grad=True)
    >>> ternary_step(x, torch.tensor(1.0), 0.5, "soft_hinge", "grad", "single").tolist()
    [-1.0, 0.0, 1.0]

    References:
        ``brevitas.core.quant.TernaryQuant`` (forward); its own gradient, 0 in the dead zone and
        1 outside, is none of the target rules.
    """
    _refuse_scaled_loss(x, weighting)
    return _TernaryStep.apply(x, scale, threshold, rule, weighting, form)


class _PaperStaircase(Function):
    @staticmethod
    def forward(ctx, x, steps, max_val, rule, weighting, form):
        ctx.save_for_backward(x)
        ctx.steps, ctx.max_val = steps, max_val
        ctx.rule, ctx.weighting, ctx.form = rule, weighting, form
        return torch.ceil(x * (steps - 1)).clamp(0, steps) * (max_val / steps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        steps, rule = ctx.steps, get_rule(ctx.rule)
        if ctx.form == "single":
            u = clip_margin(2 * x - 1, x < 0, x > 1)
            grad_x = unit_gradient(grad, u, rule, ctx.weighting)
        else:
            thresholds = [k / (steps - 1) for k in range(steps)]
            grad_x = staircase_gradient(grad, x, thresholds, 1 / steps, rule, ctx.weighting)
        return (grad_x * ctx.max_val).to(x.dtype), None, None, None, None, None


@_called_from_script
def paper_staircase(
    x: Tensor, steps: int, max_val: float, rule: str, weighting: str, form: str
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

    Raises:
        ValueError: for 1/N weighting in float16, whose loss scaling it cannot follow.

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
    _refuse_scaled_loss(x, weighting)
    return _PaperStaircase.apply(x, steps, max_val, rule, weighting, form)
