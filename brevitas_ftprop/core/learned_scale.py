"""A learned scale without the modules around it.

Brevitas takes a number through a dozen modules and three autograd functions to its absolute value,
held at a least one, over the integer's threshold: longer than a small layer takes to quantize.
"""

from typing import Any

import torch
from brevitas.core.function_wrapper import Identity
from brevitas.core.function_wrapper.misc import Abs
from brevitas.core.function_wrapper.ops_ste import ScalarSignedClampMinSte
from brevitas.core.restrict_val import FloatRestrictValue
from brevitas.core.scaling import ParameterFromRuntimeStatsScaling, ParameterScaling
from torch import Tensor
from torch.nn import Module

from ..quantize_op import is_unseen


def learned_scale(scaling: Module, threshold: Tensor) -> Tensor | None:
    """``|value|/threshold``, in value and gradient the bits of Brevitas' own modules.

    Args:
        scaling: of Brevitas, with no hook in it.
        threshold: positive, without gradient, one element.

    Returns:
        The scale; None where the module would compute something else (statistics, another
        restriction, a value below its least one), or where it has to be seen doing so.

    >>> scaling = ParameterScaling(3.0)
    >>> learned_scale(scaling, torch.tensor(2.0))
    tensor(1.5000, grad_fn=<DivBackward0>)
    >>> learned_scale(scaling, torch.tensor(2.0)) == scaling(torch.zeros(1), torch.tensor(2.0))
    tensor(True)
    """
    parts = _parts(scaling)
    if parts is None or not is_unseen(threshold):
        return None
    value, restrict, restrict_threshold, restrict_both, clamp = parts
    is_usual = (
        type(restrict) is FloatRestrictValue
        and type(restrict_threshold) is FloatRestrictValue
        and type(scaling.restrict_threshold_pre) is Abs
        and type(restrict_both) is Identity
        and type(clamp) in (Identity, ScalarSignedClampMinSte)
    )
    is_number = type(value) is torch.nn.Parameter and value.is_cpu and value.numel() == 1
    if not (is_usual and is_number and threshold.is_cpu and threshold.numel() == 1):
        return None
    # Whether before or after the division, and with room for its rounding.
    least = 2 * getattr(clamp, "min_val", 0.0) * max(1.0, float(threshold))
    return value.abs() / threshold if abs(float(value.detach())) > least else None


def _parts(scaling: Any) -> tuple[Any, ...] | None:
    """Value, what restricts it, its threshold and their ratio, and what holds it up."""
    if type(scaling) is ParameterFromRuntimeStatsScaling:
        if scaling.counter <= scaling.collect_stats_steps:
            return None
        return (
            scaling.value,
            scaling.restrict_scaling.restrict_value_impl,
            scaling.restrict_threshold.restrict_value_impl,
            scaling.restrict_scale_threshold.restrict_value_impl,
            scaling.clamp_scaling.clamp_min_ste,
        )
    if type(scaling) is ParameterScaling:
        both = scaling.restrict_clamp_scale_threshold
        if type(both.clamp_ste) is not Identity:
            return None
        return (
            scaling.value,
            scaling.restrict_clamp_scaling.restrict_value_impl,
            scaling.restrict_clamp_threshold.restrict_value_impl,
            both.restrict_value_impl,
            scaling.restrict_clamp_scaling.clamp_ste,
        )
    return None
