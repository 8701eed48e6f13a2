"""Signals, concatenations, upsampling, scales of channels: a requirement finds each, or none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8WeightPerTensorFixedPoint
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export.deployable import check_deployable
from brevitas_ftprop.models.layers import Layers
from tests.export.deployable.architectures import settle
from tests.export.deployable.small_models import (
    MEAN,
    PER_CHANNEL,
    WARNINGS,
    Joined,
    Then,
    Times,
    act,
    biased,
    linear,
    per_channel,
    seq,
    sign,
    signed,
)

pytestmark = pytest.mark.heavy

IMAGE, SIGNAL = (3, 6, 6), (2, 16)
WEIGHTS = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4, "bias": False}
INT8, CLASS = {"images": "int8"}, {"result": "class"}


def conv(entering: int = 3, leaving: int = 3, kernel: int = 3, **options: Any) -> nn.Module:
    return qnn.QuantConv2d(
        entering, leaving, kernel, **(WEIGHTS | {"padding": kernel // 2} | options)
    )


def conv1d(entering: int = 2, leaving: int = 3, kernel: int = 3, **options: Any) -> nn.Module:
    return qnn.QuantConv1d(
        entering, leaving, kernel, **(WEIGHTS | {"padding": kernel // 2} | options)
    )


def of_quarters(*, is_signed: bool) -> nn.Module:
    """A quantizer of four bits whose scale is 1/4."""
    kind = quant.TargetPropInt8ActPerTensorFixedPoint
    other = quant.TargetPropUint8ActPerTensorFixedPoint
    fixed = Layers(form="hardware")._fixed_point
    return fixed(kind, 4, 2.0) if is_signed else fixed(other, 4, 4.0)


class Joins(nn.Module):
    """The results of branches, joined."""

    def __init__(self, *branches: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.branches, self.dim = nn.ModuleList(branches), dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], self.dim)


def shared(*branches: nn.Module) -> nn.Module:
    """The results of branches through one quantizer, joined."""
    act = signed()
    return Joins(*(seq(branch, act) for branch in branches))


def up(factor: Any = 2, **options: Any) -> nn.Module:
    return nn.Upsample(scale_factor=factor, **options)


Case = tuple[str, tuple[int, ...], dict[str, Any], Callable[[], nn.Module]]


def _case(requirement: str, make: Callable[[], nn.Module], **options: Any) -> Case:
    return requirement, options.pop("shape", IMAGE), options, make


accepted = partial(_case, "")
of_signals = partial(_case, shape=SIGNAL)


def dense() -> nn.Module:
    """Each layer reads the results of all layers before it."""
    kept = signed()
    block = lambda entering, leaving: seq(conv(entering, leaving), kept)  # noqa: E731
    return seq(signed(), block(3, 3), *(Joins(nn.Identity(), block(c, 2)) for c in (3, 5)), conv(7))


def unet() -> nn.Module:
    """A map, joined with what a smaller one below it gives."""
    below = seq(nn.MaxPool2d(2), conv(3, 4), signed(), up())
    kept = below[2]
    return seq(signed(), conv(), kept, Joins(below, nn.Identity()), conv(7), act(), conv())


CASES: dict[str, Case] = {
    "signal": of_signals(
        "",
        lambda: seq(
            signed(),
            conv1d(weight_quant=PER_CHANNEL, stride=2),
            nn.BatchNorm1d(3),
            act(),
            nn.MaxPool1d(3, 2, padding=1),
            conv1d(3, groups=3),
            act(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            linear(3),
        ),
        **INT8,
        **CLASS,
    ),
    "signal that becomes an image": of_signals(
        "",
        lambda: seq(
            Then(lambda x: x.unsqueeze(2)),
            signed(),
            qnn.QuantConv2d(2, 3, (1, 3), padding=(0, 1), **WEIGHTS),
            act(),
            nn.Flatten(),
            linear(48),
        ),
        images="uint8",
        mean=(0.5, 0.4),
        std=(0.25, 0.3),
    ),
    "signal with a result of its own length": of_signals(
        "", lambda: seq(signed(), conv1d(), act(), conv1d(3))
    ),
    "signal whose average is a window": of_signals(
        "", lambda: seq(signed(), conv1d(), act(), nn.AvgPool1d(16), conv1d(3, kernel=1))
    ),
    "averages of a signal": of_signals(
        "average-pool", lambda: seq(signed(), conv1d(), act(), nn.AvgPool1d(2), conv1d(3))
    ),
    "softmax of a signal": of_signals(
        "dimensions", lambda: seq(signed(), conv1d(), nn.Softmax(1), act(), conv1d(3))
    ),
    "signal that is padded with its lowest level": of_signals(
        "",
        lambda: seq(
            *(sign(), nn.ConstantPad1d(1, -1.0), conv1d(padding=0)),
            *(sign(), nn.ConstantPad1d((2, 0), -1.0), conv1d(3, padding=0)),
            *(act(), nn.Flatten(), linear(48)),
        ),
    ),
    "signal without a convolution": of_signals(
        "dimensions", lambda: seq(nn.Flatten(), signed(), linear(32))
    ),
    "linear layer along a signal": of_signals(
        "dimensions", lambda: seq(signed(), conv1d(), act(), linear(16))
    ),
    "signal at once read and joined": of_signals(
        "", lambda: seq(signed(), shared(conv1d(), conv1d(kernel=1)), conv1d(6), act(), conv1d(3))
    ),
    "upsampled signal": of_signals("", lambda: seq(signed(), conv1d(), act(), up(), conv1d(3))),
    "branches of one quantizer": accepted(lambda: seq(signed(), shared(conv(), conv()), conv(6))),
    "branches of pixels": accepted(
        lambda: seq(signed(), shared(conv(), conv(3, 1, 1)), conv(4)), images="uint8", pixels="x"
    ),
    "branch of the quantized pixels": accepted(
        lambda: (lambda kept: seq(kept, Joins(nn.Identity(), seq(conv(), kept)), conv(6)))(
            signed()
        ),
        **INT8,
    ),
    "branches of two lengths of factors": accepted(
        lambda: seq(
            signed(),
            Joins(
                seq(conv(), of_quarters(is_signed=True)),
                seq(conv(), of_quarters(is_signed=False), Then(lambda x: x * 0.5 * 2)),
            ),
            conv(6),
        )
    ),
    "branch that is the other, turned": _case(
        "same-operands",
        lambda: seq(
            signed(), conv(), signed(), Joins(nn.Identity(), Times(-1.0)), signed(), conv(6)
        ),
    ),
    "branch that is the other, turned, each quantized": accepted(
        lambda: seq(signed(), conv(), signed(), shared(nn.Identity(), Times(-1.0)), conv(6))
    ),
    "branch that is joined twice": _case(
        "same-operands",
        lambda: Joined(lambda x, c, d: d(torch.cat([x, c(x), x], 1)), conv(), conv(9)),
    ),
    "averages that are joined": _case(
        "joined-flattening",
        lambda: seq(
            signed(),
            Joins(*(seq(conv(), act(), MEAN(1), nn.Flatten()) for _ in range(2))),
            signed(),
            linear(6),
        ),
    ),
    "averages that are joined, then flattened": _case(
        "joined-flattening",
        lambda: seq(
            signed(), shared(*(seq(conv(), MEAN(1)) for _ in "ab")), nn.Flatten(), linear(6)
        ),
    ),
    "averages that are joined, read by a convolution": accepted(
        lambda: seq(signed(), shared(*(seq(conv(), MEAN(1)) for _ in "ab")), conv(6, 3, 1))
    ),
    "sum of flattened maps": _case(
        "joined-flattening",
        lambda: Joined(
            lambda x, c, s, a, f: f(a(s(c(x)).flatten(1) + s(x).flatten(1))),
            *(conv(), signed(), act(), linear(108)),
        ),
    ),
    "features as a map again": _case(
        "reshape",
        lambda: seq(
            signed(),
            conv(),
            act(),
            nn.Flatten(),
            linear(108),
            act(),
            nn.Unflatten(1, (2, 1, 1)),
            conv(2, 3, 1),
            act(),
        ),
    ),
    "quantizer behind branches": accepted(
        lambda: seq(
            signed(),
            Joins(biased(), conv(3, 2, padding=0), seq(conv(padding=0), nn.BatchNorm2d(3))),
            nn.BatchNorm2d(8),
            act(),
            conv(8),
        )
    ),
    "signed and unsigned branches, quantized again": accepted(
        lambda: seq(
            signed(),
            Joins(
                seq(conv(), of_quarters(is_signed=False)), seq(conv(), of_quarters(is_signed=True))
            ),
            signed(3),
            conv(6),
        )
    ),
    "each layer joined to all before": accepted(dense),
    "joined with what is upsampled": accepted(unet),
    "pooled branches": accepted(
        lambda: seq(
            signed(),
            conv(),
            act(),
            Joins(nn.Identity(), nn.MaxPool2d(3, 1, padding=1)),
            nn.MaxPool2d(2),
            conv(6),
        )
    ),
    "average of branches": accepted(
        lambda: seq(signed(), shared(conv(), conv()), MEAN(1), conv(6, 3, 1))
    ),
    "flattened branches": accepted(
        lambda: seq(signed(), shared(conv(), conv()), nn.Flatten(), linear(216)), **CLASS
    ),
    "branches of features": accepted(
        lambda: seq(signed(), Joins(linear(5), linear(5)), signed(), linear(4)), shape=(5,)
    ),
    "branches into a depthwise layer": accepted(
        lambda: seq(
            signed(),
            Joins(seq(conv(), signed()), seq(conv(), qnn.QuantReLU())),
            conv(6, 6, groups=6),
            act(),
        )
    ),
    "branches of different scales": _case(
        "channel-scale",
        lambda: seq(signed(), Joins(seq(conv(), signed()), seq(conv(), qnn.QuantReLU())), conv(6)),
    ),
    "rows of branches": _case(
        "concatenation",
        lambda: seq(signed(), conv(), signed(), Joins(*[nn.Identity()] * 2, dim=2), conv()),
    ),
    "branch of the image itself": _case(
        "concatenation", lambda: seq(Joins(nn.Identity(), seq(signed(), conv())), signed(), conv(6))
    ),
    "branch of zeros": _case(
        "concatenation",
        lambda: seq(
            signed(), Then(lambda x: torch.cat([x, torch.zeros(len(x), 1, 6, 6)], 1)), conv(4)
        ),
    ),
    "repeated sums": accepted(
        lambda: seq(signed(), conv(), up(), nn.BatchNorm2d(3), act(), conv())
    ),
    "repeated image": accepted(lambda: seq(signed(), up((1, 3)), conv()), **INT8),
    "repeated to a size": accepted(
        lambda: seq(signed(), conv(), act(), nn.Upsample(size=(12, 18)), MEAN(1), conv(3, 3, 1))
    ),
    "repeated result": accepted(lambda: seq(signed(), conv(), act(), up())),
    "repeated factors of channels": _case(
        "upsampling", lambda: seq(signed(), conv(), per_channel(), up(), conv(groups=3))
    ),
    "repeated batch norm": _case(
        "upsampling", lambda: seq(signed(), conv(), nn.BatchNorm2d(3), up(), act(), conv())
    ),
    "bilinear": _case(
        "upsampling", lambda: seq(signed(), conv(), act(), up(mode="bilinear"), act(), conv())
    ),
    "upsampling by one and a half": _case(
        "upsampling", lambda: seq(signed(), conv(), act(), up(1.5), conv())
    ),
    "scales before a depthwise layer": accepted(
        lambda: seq(
            signed(), conv(), per_channel(), conv(groups=3), nn.BatchNorm2d(3), act(), conv()
        )
    ),
    "scales of the image": accepted(
        lambda: seq(per_channel(), conv(groups=3), act(), conv()), **INT8
    ),
    "scales before a pool and a depthwise layer": accepted(
        lambda: seq(signed(), conv(), per_channel(), nn.MaxPool2d(2), conv(groups=3), act(), conv())
    ),
    "scales that are read twice": accepted(
        lambda: Joined(
            lambda x, c, q, d, e, s: s(d(q(c(x)))) + s(e(q(c(x)))),
            *(conv(), per_channel(), conv(groups=3), conv(groups=3), signed()),
        )
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_found_by_its_requirement_or_by_none(name):
    requirement, shape, options, make = CASES[name]
    model = settle(make(), shape)
    report = check_deployable(model, torch.zeros(1, *shape), dynamo=False, **options)
    found = {finding.requirement for finding in report} - WARNINGS
    assert requirement in found if requirement else not found, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_flow_fails_with_a_network_that_is_refused(judge, name):
    requirement, shape, options, make = CASES[name]
    model = settle(make(), shape)
    report, error = judge(model, torch.randn(1, *shape), **options)
    assert (error is not None) is bool(requirement), f"{error}\n{report}"
