"""Each requirement of FINN finds the smallest model that breaks it, and not its neighbour."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import ShiftedUint8ActPerTensorFloat, ShiftedUint8WeightPerTensorFloat
from torch import nn

from brevitas_ftprop.export.deployable import check_deployable
from brevitas_ftprop.export.deployable.finding import ERROR
from brevitas_ftprop.export.deployable.finn_requirements import FINN_REQUIREMENTS
from tests.export.deployable.architectures import settle
from tests.export.deployable.small_models import (
    MEAN,
    PER_CHANNEL,
    SIZE,
    WARNINGS,
    Joined,
    Sum,
    Then,
    Times,
    act,
    conv,
    edited,
    linear,
    missed_by,
    per_channel,
    seq,
    sign,
    signed,
    truncated,
)

# What export_finn is asked for where it decides whether a requirement is broken.
OPTIONS: dict[str, dict[str, Any]] = {
    "pixel-input": {"images": "uint8", "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.3, 0.2)},
    "rounded-image": {"images": "uint8", "pixels": "x/255"},
    "class-result": {"result": "class"},
    "integer-result": {"result": "integers"},
}
# What a truncation behind it wants.
TENSOR = {"return_quant_tensor": True}
# Of each requirement, a model that breaks it, and one close to it that does not.
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "forked-image": (
        lambda: Sum(seq(signed(), conv()), seq(signed(), conv())),
        lambda: seq(signed(), Sum(conv(), conv())),
    ),
    "pixel-input": (
        lambda: seq(Times(-1), signed(), conv()),
        lambda: seq(nn.BatchNorm2d(3), nn.MaxPool2d(2), signed(), nn.Flatten(), linear(27)),
    ),
    "rounded-image": (
        lambda: seq(conv(), act(), conv()),
        lambda: seq(signed(), conv(), act(), conv()),
    ),
    "class-result": (
        lambda: seq(signed(), conv(), act(), nn.Flatten(), linear(108, weight_quant=PER_CHANNEL)),
        lambda: seq(signed(), conv(), act(), nn.Flatten(), linear(108), signed(), Times(-2)),
    ),
    "integer-result": (
        lambda: seq(signed(), conv(), act(), nn.Flatten(), linear(108), signed(), Times(-2)),
        lambda: seq(signed(), conv(), act(), nn.Flatten(), linear(108)),
    ),
    "activation-function": (
        lambda: seq(signed(), conv(), nn.ReLU6(), act()),
        lambda: seq(signed(), conv(), act(max_val=6.0)),
    ),
    "unknown-operator": (
        lambda: seq(signed(), conv(), nn.Sigmoid(), act()),
        lambda: seq(signed(), conv(), nn.Identity(), act()),
    ),
    "two-computed-operands": (
        lambda: Joined(lambda x, c, a: a(c(x) * x), conv(), act()),
        lambda: Joined(lambda x, c, a: a(c(x) * 0.5), conv(), act()),
    ),
    "padding-form": (
        lambda: seq(signed(), nn.ReflectionPad2d(1), conv(padding=0), act()),
        lambda: seq(signed(), nn.ZeroPad2d((1, 0, 2, 1)), conv(padding=0), act()),
    ),
    "padding-value": (
        lambda: seq(
            signed(), conv(), sign(), nn.ConstantPad2d(1, -0.5), conv(kernel=2, padding=0), act()
        ),
        lambda: seq(
            signed(), conv(), sign(), nn.ConstantPad2d(1, -1.0), conv(kernel=2, padding=0), act()
        ),
    ),
    "dimensions": (
        lambda: seq(signed(), qnn.QuantConvTranspose2d(3, 3, 2, bias=False), act()),
        lambda: seq(signed(), conv(kernel=2), act()),
    ),
    "groups": (
        lambda: seq(signed(), conv(6, groups=3)),
        lambda: seq(signed(), conv(3, groups=3)),
    ),
    "average-pool": (
        lambda: seq(signed(), nn.AvgPool2d(2), conv()),
        lambda: seq(signed(), nn.AvgPool2d(SIZE), conv(kernel=1, padding=0)),
    ),
    "truncation": (
        lambda: seq(signed(), conv(), act(4, **TENSOR), truncated(rounding="ROUND"), conv()),
        lambda: seq(signed(), conv(), act(4, **TENSOR), truncated(), conv()),
    ),
    "pool-form": (
        lambda: seq(signed(), nn.MaxPool2d(2, 3), conv()),
        lambda: seq(signed(), nn.MaxPool2d(2, 2, ceil_mode=True), conv()),
    ),
    "concatenation": (
        lambda: Joined(
            lambda x, c, d, s: torch.cat([s(c(x)), s(d(x))], 2), conv(), conv(), signed()
        ),
        lambda: Joined(
            lambda x, c, d, s: torch.cat([s(c(x)), s(d(x))], 1), conv(), conv(), signed()
        ),
    ),
    "upsampling": (
        lambda: seq(signed(), conv(), nn.BatchNorm2d(3), nn.Upsample(scale_factor=2), act()),
        lambda: seq(signed(), conv(), nn.BatchNorm2d(3), act(), nn.Upsample(scale_factor=2)),
    ),
    "loose-relu": (
        lambda: seq(signed(), nn.ReLU(), conv()),
        lambda: seq(signed(), conv(), nn.ReLU(), nn.MaxPool2d(2), act(), conv()),
    ),
    "image-result": (
        lambda: seq(signed(), conv(), nn.Flatten()),
        lambda: seq(signed(), conv(), act(), nn.Flatten(), linear(3 * SIZE**2)),
    ),
    "same-operands": (
        lambda: Joined(lambda x, c: c(x + x), conv()),
        lambda: Joined(lambda x, c: c(2 * x), conv()),
    ),
    "reshape": (
        lambda: seq(
            signed(), conv(), act(), Then(lambda x: x.reshape(len(x), 3, 4, 9)), conv(), act()
        ),
        lambda: seq(signed(), conv(), act(), Then(lambda x: x.reshape(len(x), -1)), linear(108)),
    ),
    "joined-flattening": (
        lambda: Joined(
            lambda x, c, d, a, s, f: f(torch.cat([a(c(x)).flatten(1), s(d(x)).flatten(1)], 1)),
            *(conv(), conv(), act(), act(), linear(216)),
        ),
        lambda: Joined(
            lambda x, c, d, a, s, f, g: f(a(c(x)).flatten(1)) + g(s(d(x)).flatten(1)),
            *(conv(), conv(), act(), act(), linear(108), linear(108)),
        ),
    ),
    "flattened-sum": (
        lambda: seq(signed(), conv(), nn.Flatten(), nn.BatchNorm1d(108), act(), linear(108)),
        lambda: seq(signed(), conv(), nn.Flatten(), act(), linear(3 * SIZE**2)),
    ),
    "flattened-average": (
        lambda: seq(signed(), MEAN(1), nn.Flatten(), nn.BatchNorm1d(3), signed(), linear(3)),
        lambda: seq(signed(), MEAN(1), nn.Flatten(), signed(), linear(3)),
    ),
    "tiny-map": (
        lambda: seq(signed(), MEAN(1), conv()),
        lambda: seq(signed(), MEAN(1), conv(kernel=1, padding=0)),
    ),
    "padded-signed-pool": (
        lambda: Joined(
            lambda x, p, c, a, s: a(s(c(p(x))) + s(x)),
            nn.MaxPool2d(3, 1, padding=1),
            conv(),
            act(),
            signed(),
        ),
        lambda: seq(signed(), nn.MaxPool2d(3, 1, padding=1), conv()),
    ),
    "pooled-sum": (
        lambda: Joined(lambda x, c, d, s, p: d(p(s(c(x)) + s(x))), *_pooled_sum()),
        lambda: Joined(lambda x, c, d, s, p: d(p(s(s(c(x)) + s(x)))), *_pooled_sum()),
    ),
    "float-pool": (
        lambda: seq(signed(), conv(), nn.BatchNorm2d(3), nn.MaxPool2d(2)),
        lambda: seq(signed(), conv(weight_quant=PER_CHANNEL), nn.MaxPool2d(2)),
    ),
    "forked-flattening": (
        lambda: seq(signed(), conv(), act(), nn.Flatten(), Sum(linear(108), linear(108))),
        lambda: seq(
            signed(), conv(), act(), nn.Flatten(), linear(108), act(), Sum(linear(2), linear(2))
        ),
    ),
    "unquantized-input": (
        lambda: seq(signed(), nn.BatchNorm2d(3), conv()),
        lambda: seq(nn.BatchNorm2d(3), signed(), conv()),
    ),
    "unquantized-weight": (
        lambda: seq(signed(), nn.Conv2d(3, 3, 3)),
        lambda: seq(signed(), conv()),
    ),
    "channel-scale": (
        lambda: seq(per_channel(), conv()),
        lambda: seq(signed(), conv(), per_channel()),
    ),
    "float-average": (
        lambda: seq(signed(), conv(), nn.BatchNorm2d(3), MEAN(1), act(), conv(kernel=1, padding=0)),
        lambda: seq(signed(), conv(), MEAN(1), act(), conv(kernel=1, padding=0)),
    ),
    "float-sum": (
        lambda: Joined(lambda x, c, a: a(c(x) + x), conv(), act()),
        lambda: Joined(lambda x, c, a, s: a(s(c(x)) + s(x)), conv(), act(), signed()),
    ),
    "activation-bits": (
        lambda: seq(signed(9), conv()),
        lambda: seq(signed(8), conv()),
    ),
    "weight-zero-point": (
        lambda: seq(signed(), conv(weight_quant=ShiftedUint8WeightPerTensorFloat)),
        lambda: seq(signed(), conv()),
    ),
    "channel-zero-point": (
        lambda: seq(per_channel(ShiftedUint8ActPerTensorFloat), conv()),
        lambda: seq(qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat), conv()),
    ),
    "inexact-accumulator": (
        lambda: seq(signed(8), conv(weight_bit_width=16)),
        lambda: seq(signed(8), conv(weight_bit_width=8)),
    ),
    "dead-channel": (
        lambda: edited(
            seq(signed(), conv(), nn.BatchNorm2d(3), act()), lambda m: nn.init.zeros_(m[2].weight)
        ),
        lambda: seq(signed(), conv(), nn.BatchNorm2d(3), act()),
    ),
}


def _pooled_sum() -> tuple[nn.Module, ...]:
    return conv(), conv(), signed(), nn.MaxPool2d(2)


def test_every_requirement_has_a_case():
    # Only the dynamo exporter writes a shared layer's weights once: see the test at the end.
    assert set(CASES) == set(FINN_REQUIREMENTS) - {"shared-layer"}


@pytest.mark.parametrize("name", CASES)
def test_a_model_that_breaks_a_requirement_is_found(name):
    broken, _ = CASES[name]
    assert name in missed_by(broken(), **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", CASES)
def test_a_neighbour_that_keeps_all_requirements_is_not(name):
    _, near = CASES[name]
    assert missed_by(near(), **OPTIONS.get(name, {})) <= WARNINGS


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CASES if FINN_REQUIREMENTS[n].severity == ERROR])
def test_the_flow_fails_where_a_requirement_is_broken_and_not_beside_it(judge, name):
    for make, fails in zip(CASES[name], (True, False), strict=True):
        model = settle(make(), (3, SIZE, SIZE))
        report, error = judge(model, torch.randn(1, 3, SIZE, SIZE), **OPTIONS.get(name, {}))
        assert report.ok is not fails
        assert (error is not None) is fails, f"{error}\n{report}"


def test_a_value_that_is_not_finite_is_found():
    model = edited(
        seq(signed(), conv(), nn.BatchNorm2d(3), act()),
        lambda m: nn.init.constant_(m[2].bias, math.nan),
    )
    (finding,) = check_deployable(model, torch.zeros(1, 3, SIZE, SIZE), dynamo=False)
    assert (finding.requirement, finding.layer, finding.severity) == ("not-finite", "2", ERROR)


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_layer_that_is_called_twice_is_found_where_its_weights_are_written_once(dynamo):
    shared = conv()
    model = settle(seq(signed(), shared, act(), shared, act()), (3, SIZE, SIZE))
    report = check_deployable(model, torch.zeros(1, 3, SIZE, SIZE), dynamo=dynamo)
    assert ("shared-layer" in {finding.requirement for finding in report.errors}) is dynamo


def _only(model: nn.Module, shape: tuple[int, ...] = (3, SIZE, SIZE), **options: Any) -> Any:
    """The one finding in a model."""
    settle(model, shape)
    (finding,) = check_deployable(model, torch.zeros(1, *shape), dynamo=False, **options)
    return finding


def test_a_padding_with_the_lowest_level_names_what_else_reads_the_quantizer():
    model = seq(
        *(signed(), conv(), sign(), nn.Upsample(scale_factor=2), nn.ConstantPad2d(1, -1.0)),
        *(conv(padding=0), act()),
    )
    finding = _only(model)
    assert (finding.requirement, finding.layer) == ("padding-value", "4")
    assert finding.message.startswith("3 (Resize) reads 2.act_quant too")


def test_a_result_of_another_shape_is_told_to_be_flat_and_of_two_classes():
    flat = _only(seq(signed(), conv(kernel=SIZE, padding=0)), result="class")
    assert flat.message == "its result has shape (1, 3, 1, 1): flatten it to (1, classes)"
    one = seq(signed(), conv(1, kernel=SIZE, padding=0), nn.Flatten())
    assert _only(one, result="class").message.endswith("takes two classes or more")


def test_a_tensor_that_is_joined_twice_is_the_only_finding():
    model = Joined(lambda x, c, d: d(torch.cat([x, c(x), x], 1)), conv(), wide())
    finding = _only(model)
    assert finding.requirement == "same-operands"
    assert "torch.cat([a, b, a], 1)" in finding.fix


def wide() -> nn.Module:
    """A convolution of nine channels."""
    return qnn.QuantConv2d(9, 3, 3, bias=False)


@pytest.mark.parametrize("width", [16, 5])
def test_a_linear_layer_along_a_signal_is_named_and_not_the_convolution(width):
    weights = {"bias": False, "weight_bit_width": 4}
    model = seq(signed(), qnn.QuantConv1d(2, 3, 3, padding=1, **weights), act(), linear(width))
    finding = _only(model, (2, width))
    assert (finding.requirement, finding.layer) == ("dimensions", "3")
