"""The quantization steps as differentiable functions, whose backward passes ask a target rule."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from .kernels import SAVED_FORMS, STAIRCASE_FORMS, Integers, Operands, PaperStaircase, Ternary
from .quantize_op import quantize
from .rules import Rule, get_rule
from .targets import check_weighting

Op = TypeVar("Op", bound=Callable[..., Tensor])

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
    _check_saved(saved)
    return get_rule(rule).spec


def _check_saved(saved: str) -> None:
    if saved not in SAVED_FORMS:
        raise ValueError(f"saved must be one of {', '.join(SAVED_FORMS)}, not {saved!r}")


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


def _fits(operand: Tensor, x: Tensor) -> bool:
    if operand.dim() > x.dim():
        return operand.numel() == 1
    sizes = zip(operand.shape, x.shape[x.dim() - operand.dim() :], strict=True)
    return all(size in (1, of_x) for size, of_x in sizes)


def _call(x: Tensor, operands: Operands, step: str, *options: str) -> Tensor:
    _, weighting, saved, _ = options
    _refuse_scaled_loss(x, weighting)
    _check_saved(saved)
    for operand in (operands.scale, operands.zero_point):
        # Brevitas asks quantizers for their scales by a number.
        if operand is not None and x.dim() and not _fits(operand, x):
            raise ValueError(
                f"a scale or zero-point of shape {tuple(operand.shape)} does not broadcast to an "
                f"input of shape {tuple(x.shape)}"
            )
    return quantize(x, operands, step, *options)


@_called_from_script
def binary_sign(
    x: Tensor, scale: Tensor, rule: str, weighting: str, saved: str = "exact", backend: str = "auto"
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
            slopes; 16 bits of the input where scale, zero-point or bounds learn, and for rules
            whose slope has no bound).
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
        rounded: v as another rounding rounds it, without gradient; in place of ``rounding``, which
            may then be ``"own"``.
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
