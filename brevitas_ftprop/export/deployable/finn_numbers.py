"""FINN: quantizers and numbers that its integers can hold."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ...levels import level_function
from ..float32 import EXACT_BITS
from .graph_view import GraphView
from .last_bias import weight_totals
from .requirement import Found, Requirements
from .walk import integers_of, weighted_layers

NUMBER_REQUIREMENTS = Requirements()

LARGEST_BITS = 8


@NUMBER_REQUIREMENTS.add(
    "activation-bits",
    why="Loud: a threshold for each level is needed, and the flow makes them for 8 bits or fewer.",
    fix="use bit_width=8 or less",
)
def activation_bits(view: GraphView) -> Found:
    """Activation quantizers of more than 8 bits."""
    for name, proxy in view.activations():
        bits = level_function(proxy).bit_width
        if bits > LARGEST_BITS:
            yield name, f"{bits} bits"


@NUMBER_REQUIREMENTS.add(
    "weight-zero-point",
    why="Loud: FINN converts weights without zero-point only, and stops in the step `finn`.",
    fix="use symmetric weights, e.g. Int8WeightPerTensorFixedPoint",
)
def weight_zero_point(view: GraphView) -> Found:
    """Weight quantizers with a zero-point that is not 0."""
    for name, proxy in view.weights():
        if bool(level_function(proxy).zero_point.any()):
            yield name.removesuffix(".weight_quant"), "its weights have a zero-point"


@NUMBER_REQUIREMENTS.add(
    "channel-zero-point",
    why="Loud: a shift for each channel does not move through a layer's padding and sums.",
    fix="use one zero-point for all channels, or none",
)
def channel_zero_point(view: GraphView) -> Found:
    """Activation quantizers with several zero-points."""
    for name, proxy in view.activations():
        zero_point = level_function(proxy).zero_point
        if zero_point.numel() > 1 and bool(zero_point.any()):
            yield name, f"{zero_point.numel()} zero-points"


@NUMBER_REQUIREMENTS.add(
    "inexact-accumulator",
    severity="warning",
    why="Silent: PyTorch's float32 sums are exact up to 24 bits only; beyond, the accelerator's "
    "exact integers may differ from them where the sum is that large, and verification counts that "
    "as rounding.",
    fix="use fewer bits for weights or activations, or accept the difference",
)
def inexact_accumulator(view: GraphView) -> Found:
    """Layers whose largest possible sum needs more than 24 bits."""
    for node in weighted_layers(view):
        sources = integers_of(view, view.computed_inputs(node)[0], shifted=True)
        weight = view.weight_quantizer(node)
        if sources is None or weight is None:
            continue
        largest = sum(_largest(view.proxies[name]) for name in sources.quantizers)
        largest = largest or max(map(abs, view.io.ends))
        proxy: Any = view.proxies[weight]
        reach = float(weight_totals(proxy).max()) * largest
        bits = 1 + math.ceil(math.log2(reach + 1)) if 1 <= reach < math.inf else 1
        if bits > EXACT_BITS:
            yield view.layer(node), f"its largest possible sum needs {bits} bits"


def _largest(proxy: Any) -> float:
    function = level_function(proxy)
    offsets = torch.tensor(function.level_values).float() - function.zero_point.reshape(-1, 1)
    return float(offsets.abs().max())


@NUMBER_REQUIREMENTS.add(
    "dead-channel",
    severity="warning",
    why="Silent: such a channel is constant, and its hardware is wasted.",
    fix="prune the channel, or restart its batch norm",
)
def dead_channel(view: GraphView) -> Found:
    """Batch norms with a weight of 0."""
    for name, module in view.model.named_modules():
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or not module.affine:
            continue
        dead = int((module.weight.detach() == 0).sum())
        if dead:
            yield name, f"{dead} of its {module.num_features} channels have the weight 0"
