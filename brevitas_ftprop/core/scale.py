"""Scales, computed once where they are constant."""

from typing import Any

import torch
from brevitas.core.scaling import (
    ConstScaling,
    ParameterFromRuntimeStatsScaling,
    ParameterFromStatsFromParameterScaling,
    ParameterScaling,
    RuntimeStatsScaling,
    StatsFromParameterScaling,
)
from torch import Tensor
from torch.nn import Module

from ..memo import remembered
from .hooks import has_no_hooks

# Value, scale, zero-point, bit width.
QuantOutput = tuple[Tensor, Tensor, Tensor, Tensor]
# Scales that are divided by a threshold, which is 1 unless it is given.
SCALINGS = (
    ParameterFromRuntimeStatsScaling,
    ParameterFromStatsFromParameterScaling,
    ParameterScaling,
    RuntimeStatsScaling,
    StatsFromParameterScaling,
)


def scale_alone(quant: Any, x: Tensor) -> Tensor:
    """The scale of a quantizer without bit width, whose dtype and device follow its input."""
    scaling, like = quant.scaling_impl, (x.dtype, x.device)
    if is_plain(scaling, ConstScaling):
        sources = (scaling.value.value,)
        (scale,) = remembered(quant, ("scale", *like), sources, lambda: (scaling(x),))
        return scale
    if is_plain(scaling, *SCALINGS):
        # What Brevitas would make anew on the CPU and wait for on its way to the device.
        (one,) = remembered(quant, ("one", *like), (), lambda: (torch.ones(1).type_as(x),))
        return scaling(x, one)
    return scaling(x)


def is_plain(module: Module, *kinds: type) -> bool:
    """Whether a module is of one of these very kinds, with no hook on it."""
    return type(module) in kinds and has_no_hooks(module)
