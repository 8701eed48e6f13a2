"""Variants of biases, averages, pools, flattenings: its requirement finds each, or none does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import (
    Int8BiasPerTensorFloatInternalScaling,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    Int16Bias,
    Int32Bias,
)
from torch import nn

from tests.export.deployable.architectures import settle
from tests.export.deployable.small_models import (
    MEAN,
    PER_CHANNEL,
    SIZE,
    WARNINGS,
    Sum,
    Times,
    View,
    act,
    biased,
    conv,
    linear,
    missed_by,
    negative_norm,
    per_channel,
    quantized_bias,
    seq,
    shortcut,
    sign,
    signed,
    truncated,
)

pytestmark = pytest.mark.heavy

POINT = partial(conv, kernel=1, padding=0)
FLOAT, OWN_SCALE = Int8WeightPerChannelFloat, Int8BiasPerTensorFloatInternalScaling


def averaged(*layers: nn.Module) -> nn.Module:
    return seq(signed(), *layers, MEAN(1), act(), POINT())


def pooled(*layers: nn.Module) -> nn.Module:
    return seq(signed(), conv(), *layers, nn.MaxPool2d(2), conv())


def tensor(layer: nn.Module) -> nn.Module:
    layer.return_quant_tensor = True
    return layer


def pool_of(activation: nn.Module, *layers: nn.Module) -> nn.Module:
    return seq(signed(), conv(), tensor(activation), *layers)


def image_in_maps_and_flattened() -> nn.Module:
    head = partial(seq, nn.Flatten(), linear(108), signed())
    maps = seq(conv(), nn.BatchNorm2d(3), act(), head())
    return seq(signed(), Sum(maps, head()))


# Biases, averages, pools, flattenings: the requirement that refuses them, or none.
VARIANTS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "average of a bias": ("float-average", lambda: averaged(biased())),
    "average of scales": ("float-average", lambda: averaged(conv(weight_quant=PER_CHANNEL))),
    "average of quantizer's scales": ("float-average", lambda: averaged(conv(), per_channel())),
    "average of a norm behind a pool": (
        "float-average",
        lambda: averaged(conv(), nn.BatchNorm2d(3), nn.MaxPool2d(2)),
    ),
    "average of an unequal sum": (
        "float-average",
        lambda: averaged(Sum(conv(), conv(weight_bit_width=2))),
    ),
    "average of the image": (
        "float-average",
        lambda: seq(MEAN(1), signed(), POINT()),
    ),
    "average at the end": ("float-average", lambda: seq(signed(), biased(), MEAN(1))),
    "average of a sum of weights": ("", lambda: averaged(conv())),
    "average of a multiple": ("", lambda: averaged(conv(), Times(0.3, plus=1.0))),
    "average of pooled sums": ("", lambda: averaged(conv(), Times(-1), nn.MaxPool2d(2))),
    "average of pooled integers": ("", lambda: averaged(conv(), act(), nn.MaxPool2d(2))),
    "negative norm before pool": (
        "",
        lambda: seq(signed(), conv(), negative_norm(), nn.MaxPool2d(2), act(), conv()),
    ),
    "negative norm, quantizer, pool": ("", lambda: pooled(negative_norm(), act())),
    "negative norm, pool at the end": (
        "float-pool",
        lambda: seq(signed(), conv(), negative_norm(), nn.MaxPool2d(2)),
    ),
    "negative factor before pool": ("", lambda: pooled(signed(), Times(-3))),
    "negative factor of a sign": ("", lambda: pooled(sign(), Times(-1))),
    "negative factor before padded pool": (
        "padded-signed-pool",
        lambda: seq(signed(), Times(-1), nn.MaxPool2d(3, 2, padding=1), conv()),
    ),
    "negative factor before pool and sum": (
        "unquantized-input",
        lambda: seq(pooled(signed(), Times(-1)), Sum(signed(), seq(signed(), conv(), signed()))),
    ),
    "bias of 32 bits": ("", lambda: seq(tensor(signed()), quantized_bias(), act(), conv())),
    "bias of 16 bits, scales": (
        "",
        lambda: seq(tensor(signed()), quantized_bias(Int16Bias, weight_quant=FLOAT), act(), conv()),
    ),
    "bias with a scale of its own": (
        "",
        lambda: seq(
            tensor(signed()), quantized_bias(OWN_SCALE, groups=3, weight_quant=FLOAT), act(), conv()
        ),
    ),
    "bias behind a truncated pool": (
        "",
        lambda: pool_of(act(4), truncated(), quantized_bias(), nn.MaxPool2d(2), act(), POINT()),
    ),
    "bias before a shortcut": (
        "",
        lambda: seq(
            tensor(signed()),
            quantized_bias(),
            tensor(act(4)),
            Sum(seq(quantized_bias(), signed()), signed()),
            act(),
            conv(),
        ),
    ),
    "average of a quantized bias": (
        "float-average",
        lambda: seq(tensor(signed()), quantized_bias(), MEAN(1), act(), POINT()),
    ),
    "pool to its own size": ("", lambda: seq(signed(), conv(), act(), MEAN(SIZE), conv())),
    "pool of the image to its own size": (
        "average-pool",
        lambda: seq(MEAN(SIZE), signed(), conv()),
    ),
    "idle truncation": ("", lambda: pool_of(act(4), truncated(6, 12), nn.Flatten(), linear(3))),
    "idle truncation of windows": ("", lambda: pool_of(act(4), truncated(3, 8, "ROUND"), conv())),
    "truncation of signed integers": ("", lambda: pool_of(signed(), truncated(3, 3), conv())),
    "truncation of overlapping windows": (
        "",
        lambda: pool_of(act(2), truncated(3, 2, stride=1), conv()),
    ),
    "truncation of the whole map": (
        "",
        lambda: pool_of(act(4), truncated(6, 4), signed(), nn.Flatten(), linear(3)),
    ),
    "truncation of one of two readers": (
        "",
        lambda: pool_of(
            act(4),
            Sum(seq(truncated(), signed()), seq(nn.MaxPool2d(2), signed())),
            act(),
            conv(),
        ),
    ),
    "truncation of a narrow range": (
        "truncation",
        lambda: pool_of(signed(), truncated(narrow_range=True), conv()),
    ),
    "truncation to one bit": ("truncation", lambda: pool_of(act(4), truncated(2, 1), conv())),
    "truncation of an oblong window": (
        "truncation",
        lambda: pool_of(act(4), truncated((2, 3), stride=(2, 3)), conv()),
    ),
    "truncation of skipped pixels": (
        "truncation",
        lambda: pool_of(act(4), truncated(stride=3), conv()),
    ),
    "truncation behind another pool": (
        "truncation",
        lambda: pool_of(act(4), nn.MaxPool2d(2), truncated(3), nn.Flatten(), linear(3)),
    ),
    "factors behind a flattening": (
        "",
        lambda: seq(signed(), conv(), View(), Times(2, plus=-1), nn.ReLU(), act(), linear(108)),
    ),
    "sign behind a flattening": (
        "",
        lambda: seq(signed(), conv(), nn.MaxPool2d(2), nn.Flatten(), sign(), linear(27)),
    ),
    "quantizers on both sides of a flattening": (
        "",
        lambda: seq(signed(), conv(), act(), nn.Flatten(), signed(), linear(108)),
    ),
    "two quantizers behind a flattening": (
        "forked-flattening",
        lambda: seq(signed(), conv(), nn.Flatten(), Sum(act(), signed()), signed(), linear(108)),
    ),
    "image in maps and flattened": ("", image_in_maps_and_flattened),
    "flattened image": ("", lambda: seq(nn.Flatten(), signed(), linear(108))),
    "reshaped image": ("", lambda: seq(View(), Times(2, plus=-1), signed(), linear(108))),
    "factor before a pool that forks": (
        "",
        lambda: seq(signed(), Times(2), nn.MaxPool2d(2), shortcut(conv()), act()),
    ),
    "pool of sums that forks": (
        "float-pool",
        lambda: seq(signed(), conv(), nn.MaxPool2d(2), Sum(signed(), signed()), act()),
    ),
}

PIXELS = {"images": "uint8", "pixels": "x"}
NORMALIZED = {"images": "uint8", "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.3, 0.2)}
# Beginnings where integers enter: what is asked for, and the same.
BEGINNINGS: dict[str, tuple[str, dict[str, Any], Callable[[], nn.Module]]] = {
    "pixels into weights": ("", PIXELS, lambda: seq(conv(), act(), conv())),
    "normalized pixels into weights": ("pixel-input", NORMALIZED, lambda: seq(conv(), act())),
    "pixels less one into weights": (
        "pixel-input",
        PIXELS | {"pixels": "x/127.5-1"},
        lambda: seq(conv(), act()),
    ),
    "shifted pixels into weights": ("pixel-input", PIXELS, lambda: seq(Times(2, -1), conv())),
    "factor before weights": ("", PIXELS, lambda: seq(Times(0.25), conv(), act(), conv())),
    "pool before weights": ("", PIXELS, lambda: seq(nn.MaxPool2d(2), conv(), act(), conv())),
    "flat pixels into weights": ("", PIXELS, lambda: seq(nn.Flatten(), linear(108))),
    "flat pixels": ("", NORMALIZED, lambda: seq(nn.Flatten(), Times(2, -1), act(), linear(108))),
    "pooled, then flat": (
        "",
        NORMALIZED,
        lambda: seq(nn.MaxPool2d(2), nn.Flatten(), signed(), linear(27)),
    ),
    "any rising function": (
        "",
        PIXELS,
        lambda: seq(Times(0.01), nn.Tanh(), nn.ReLU(), nn.Sigmoid(), signed(), conv()),
    ),
    "int8 into weights": ("", {"images": "int8"}, lambda: seq(conv(), act(), conv())),
    "signs into padding": ("", {"images": "bipolar"}, lambda: seq(conv(), sign(), conv())),
    "int4 into a quantizer": (
        "",
        {"images": "int4"},
        lambda: seq(nn.BatchNorm2d(3), signed(3), conv()),
    ),
    "int8 that forks": ("pixel-input", {"images": "int8"}, lambda: Sum(conv(), conv())),
    "pixels in maps and flattened": ("", NORMALIZED, image_in_maps_and_flattened),
    "pixels flattened twice": (
        "pixel-input",
        NORMALIZED,
        lambda: seq(signed(), Sum(seq(nn.Flatten(), linear(108)), seq(nn.Flatten(), linear(108)))),
    ),
    "averaged pixels": ("", PIXELS, lambda: seq(MEAN(1), conv(kernel=1, padding=0))),
}


def ending(bias: torch.Tensor | None = None, *behind: nn.Module, **options: Any) -> nn.Module:
    """A network that ends in a linear layer with a bias, its scales powers of two."""
    weights = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4}
    last = qnn.QuantLinear(108, 2, bias=True, **(weights | options))
    if bias is not None:
        last.bias = nn.Parameter(bias)
    quantized = act(return_quant_tensor="bias_quant" in options)
    return seq(signed(), conv(), quantized, nn.Flatten(), last, *behind)


INT32 = {"bias_quant": Int32Bias}
# Endings in a bias: the requirement that refuses them, or none, the result, and the same.
ENDINGS: dict[str, tuple[str, str, Callable[[], nn.Module]]] = {
    "quantized bias, class": ("", "class", lambda: ending(**INT32)),
    "quantized bias, integers": ("", "integers", lambda: ending(**INT32)),
    "quantized bias of a float scale": (
        "",
        "integers",
        lambda: ending(**INT32, weight_quant=Int8WeightPerTensorFloat),
    ),
    "quantized bias and channels": (
        "class-result",
        "class",
        lambda: ending(**INT32, weight_quant=Int8WeightPerChannelFloat),
    ),
    "float bias, class": ("", "class", lambda: ending(torch.tensor([0.3, -0.123]))),
    "float bias, norm behind": (
        "",
        "class",
        lambda: ending(torch.tensor([0.3, -0.123]), Times(0.5, plus=0.7)),
    ),
    "float bias, integers": ("integer-result", "integers", lambda: ending(torch.ones(2) / 3)),
    "float bias of integers": ("", "integers", lambda: ending(torch.tensor([0.5, -3.0]))),
    "float bias of one number": ("", "class", lambda: ending(torch.full((2,), 0.3))),
    "float bias within rounding": (
        "class-result",
        "class",
        lambda: ending(torch.tensor([0.1, 0.1 + 1e-7])),
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_is_found_by_its_requirement_or_by_none(name):
    requirement, result, make = ENDINGS[name]
    found = missed_by(make(), result=result) - WARNINGS
    assert requirement in found if requirement else not found


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDINGS)
def test_the_flow_fails_with_an_ending_that_is_refused(judge, name):
    requirement, result, make = ENDINGS[name]
    model = settle(make(), (3, SIZE, SIZE))
    report, error = judge(model, torch.randn(1, 3, SIZE, SIZE), result=result)
    assert (error is not None) is bool(requirement), f"{error}\n{report}"


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_beginning_is_found_by_its_requirement_or_by_none(name):
    requirement, options, make = BEGINNINGS[name]
    found = missed_by(make(), **options) - WARNINGS
    assert requirement in found if requirement else not found


@pytest.mark.slow
@pytest.mark.parametrize("name", BEGINNINGS)
def test_the_flow_fails_with_a_beginning_that_is_refused(judge, name):
    requirement, options, make = BEGINNINGS[name]
    model = settle(make(), (3, SIZE, SIZE))
    report, error = judge(model, torch.randn(1, 3, SIZE, SIZE), **options)
    assert (error is not None) is bool(requirement), f"{error}\n{report}"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_found_by_its_requirement_or_by_none(name):
    requirement, make = VARIANTS[name]
    found = missed_by(make()) - WARNINGS
    assert requirement in found if requirement else not found


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_flow_fails_with_a_variant_that_is_refused(judge, name):
    requirement, make = VARIANTS[name]
    model = settle(make(), (3, SIZE, SIZE))
    report, error = judge(model, torch.randn(1, 3, SIZE, SIZE))
    assert (error is not None) is bool(requirement), f"{error}\n{report}"
