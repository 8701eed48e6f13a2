"""A step as its formulas inside a compiled model, for who asks for the backend ``compiled``.

The operator is one opaque node to a compiler; its formulas are loops that it makes one with those
of the batch norm in front and of whatever is behind.
"""

import torch
from torch import Tensor

from .kernels import Asked, Needs, Operands, is_compiled_chosen, kept_of, parse_step, what_to_keep
from .kernels.backends import eager
from .rules import get_rule


@torch.compiler.assume_constant_result
def can_dissolve(step: str, backend: str) -> bool:
    """Whether a step's formulas are asked for, and the compiler can take them: it does not know the
    number of an integer's thresholds.

    >>> can_dissolve("sign", "compiled"), can_dissolve("integers:round:sum:False", "compiled")
    (True, False)
    """
    return is_compiled_chosen(backend) and not (
        parse_step(step).form == "sum" and parse_step(step).name == "integers"
    )


class _Formulas(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *rest):
        *operands, step, rule, weighting, saved = rest
        learns = any(ctx.needs_input_grad[1:5])
        the_step, the_rule = parse_step(step), get_rule(rule)
        keep = what_to_keep(the_step, the_rule, saved, x.dtype, learns=learns)
        y, compact = eager.forward(the_step, x, Operands(*operands), the_rule, keep)
        ctx.save_for_backward(kept_of(keep, x, compact), *operands)
        ctx.options = the_step, the_rule, weighting
        ctx.dtype, ctx.batch_size = x.dtype, x.shape[0] if x.dim() else 1
        return y

    @staticmethod
    def backward(ctx, grad):
        kept, *operands = ctx.saved_tensors
        step, rule, weighting = ctx.options
        _, *learns, _, _, _, _, _ = ctx.needs_input_grad
        needs = Needs(learns[0], learns[1], learns[2] or learns[3])
        asked = Asked(weighting, needs, ctx.batch_size)
        grad_x, *sums = eager.backward(step, grad, kept, Operands(*operands), rule, asked)
        sums = [total if wanted else None for total, wanted in zip(sums, learns, strict=True)]
        return grad_x.to(ctx.dtype), *sums, *(None,) * 5


# To Dynamo a call like any other; what differentiates and lowers its graph goes through it.
@torch.compiler.allow_in_graph
def dissolved(
    x: Tensor,
    scale: Tensor | None,
    zero_point: Tensor | None,
    lo: Tensor | None,
    hi: Tensor | None,
    rounded: Tensor | None,
    step: str,
    rule: str,
    weighting: str,
    saved: str,
) -> Tensor:
    """The quantized value and its gradient by the formulas of :mod:`.kernels.backends.eager`.

    >>> x = torch.tensor([-0.2, 3.0])
    >>> dissolved(x, torch.tensor(0.5), *(None,) * 4, "sign", "soft_hinge", "grad", "exact")
    tensor([-0.5000,  0.5000])
    """
    return _Formulas.apply(x, scale, zero_point, lo, hi, rounded, step, rule, weighting, saved)
