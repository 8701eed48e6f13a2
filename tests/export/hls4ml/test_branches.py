"""Joined branches and truncated averages are exact in hls4ml's graph, or refused with an edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import brevitas.nn as qnn
import pytest
import torch
from brevitas.inject.enum import ScalingImplType
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8WeightPerTensorFixedPoint,
    ShiftedUint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor, nn

from brevitas_ftprop.export import check_deployable
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from brevitas_ftprop.export.qonnx import qonnx_graph
from brevitas_ftprop.quant import TargetPropInt8WeightPerChannelFixedPoint
from tests.export.hls4ml.test_integer_sums import run_hardware, some_images

SHAPE = (2, 6, 6)
WEIGHTS = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 3, "bias": False}


def image(bits: int = 5, **options) -> nn.Module:
    return qnn.QuantIdentity(Int8ActPerTensorFixedPoint, bit_width=bits, **options)


def act(scale: float, **options) -> nn.Module:
    constant = {"scaling_impl_type": ScalingImplType.CONST, "scaling_init": scale}
    return qnn.QuantIdentity(Int8ActPerTensorFloat, bit_width=4, **constant, **options)


def relu(bits: int = 3) -> nn.Module:
    return qnn.QuantReLU(Uint8ActPerTensorFixedPoint, bit_width=bits)


def conv(entering: int, leaving: int, kernel: int = 1, **options) -> nn.Module:
    return qnn.QuantConv2d(entering, leaving, kernel, **WEIGHTS | options)


def by_channel(leaving: int) -> nn.Module:
    return conv(2, leaving, weight_quant=TargetPropInt8WeightPerChannelFixedPoint, bias=True)


class Joined(nn.Module):
    """The channels of several branches of the image, one behind the other."""

    def __init__(self, *branches: Sequence[nn.Module], dim: int = 1) -> None:
        super().__init__()
        self.image, self.dim = image(), dim
        self.branches = nn.ModuleList(nn.Sequential(*each) for each in branches)

    def forward(self, x: Tensor) -> Tensor:
        x = self.image(x)
        return torch.cat([branch(x) for branch in self.branches], self.dim)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def of_one_quantizer() -> nn.Module:
    shared = act(0.5)
    return nn.Sequential(Joined([conv(2, 3), shared], [shared]), conv(5, 4, 3, padding=1))


ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "one quantizer": of_one_quantizer,
    "sums of several scales": lambda: nn.Sequential(
        Joined([by_channel(3)], [], [conv(2, 1)]), nn.BatchNorm2d(6), relu(), conv(6, 2)
    ),
    "several scales before a depthwise layer": lambda: nn.Sequential(
        Joined([act(1.0)], [conv(2, 2), act(0.75)]), conv(4, 4, 3, groups=4), relu(), conv(4, 2)
    ),
    "several scales before pools": lambda: nn.Sequential(
        Joined([act(1.0)], [act(3.0)]), nn.MaxPool2d(2), nn.AvgPool2d(2), relu(), conv(4, 2)
    ),
    "features": lambda: nn.Sequential(
        Joined([conv(2, 1), relu(), nn.Flatten()], [relu(), nn.Flatten()]),
        qnn.QuantIdentity(Int8ActPerTensorFixedPoint, bit_width=4),
        qnn.QuantLinear(108, 3, **WEIGHTS),
    ),
    "a map as it is": lambda: nn.Sequential(Joined([conv(2, 1), relu()], [])),
    "one branch twice": lambda: nn.Sequential(Joined([], [Doubled()]), act(1.0), conv(4, 2)),
}


def settled(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, *SHAPE))
    return model.eval()


def checked(model: nn.Module) -> list[tuple[str, str, str]]:
    report = check_deployable(model, torch.zeros(1, *SHAPE), "hls4ml", dynamo=False)
    return [(found.layer, found.requirement, found.message) for found in report]


def assert_exact(model: nn.Module) -> None:
    assert checked(model) == []
    graph = ModelWrapper(qonnx_graph(model, torch.zeros(1, *SHAPE), dynamo=False))
    images = some_images(model, SHAPE)[::4]
    with torch.no_grad():
        expected = model(images)
    found = run_hardware(hardware_graph(graph), images)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ACCEPTED)
def test_joined_branches_compute_what_pytorch_does(name):
    torch.manual_seed(0)
    assert_exact(settled(ACCEPTED[name]()))


def of_two_scales(*between: nn.Module) -> nn.Module:
    return nn.Sequential(Joined([act(1.0)], [act(3.0)]), *between, conv(4, 2))


SCALES = (
    "mixes integers of different scales, of 0.branches.0.0.act_quant and 0.branches.1.0.act_quant"
)
# What is refused: its finding, and the network that the finding's fix makes of it.
REFUSED = {
    "scales": (
        of_two_scales,
        ("1", "joined-scales", SCALES),
        of_one_quantizer,
    ),
    "scales, the other edit": (
        of_two_scales,
        ("1", "joined-scales", SCALES),
        lambda: of_two_scales(act(3.0)),
    ),
    "sums": (
        lambda: nn.Sequential(Joined([by_channel(2)], []), conv(4, 2)),
        ("1", "unquantized-input", "reads the result of 0, which is not quantized"),
        lambda: nn.Sequential(Joined([by_channel(2)], []), act(1.0), conv(4, 2)),
    ),
    "norm": (
        lambda: nn.Sequential(Joined([nn.BatchNorm2d(2)], []), act(1.0)),
        ("0", "float-join", "joins the result of 0.branches.0.0, which is not quantized"),
        lambda: nn.Sequential(Joined([nn.BatchNorm2d(2), act(1.0)], []), act(1.0)),
    ),
    "axis": (
        lambda: nn.Sequential(Joined([], [relu()], dim=2), conv(2, 2)),
        ("0", "branches", "joins something else than the channels of branches"),
        lambda: nn.Sequential(Joined([], [relu()], dim=1), act(1.0), conv(4, 2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_joined_is_named_and_passes_once_edited(name):
    torch.manual_seed(0)
    build, finding, edit = REFUSED[name]
    assert checked(settled(build())) == [finding]
    assert_exact(settled(edit()))


def truncated(
    kernel: int, kept: int, rounding: str, *, first: nn.Module | None = None, stride: int = 2
) -> nn.Module:
    pool = qnn.TruncAvgPool2d(
        kernel,
        stride,
        bit_width=kept,
        float_to_int_impl_type=rounding,
        return_quant_tensor=False,
    )
    return nn.Sequential(first or image(return_quant_tensor=True), pool, conv(2, 3))


@settings(max_examples=5, deadline=None)
# The images' scale is 2.
@example(kernel=2, kept=6, bits=2, rounding="FLOOR", is_signed=True, stride=2)
@given(
    kernel=st.integers(1, 4),
    kept=st.integers(2, 8),
    bits=st.integers(2, 6),
    rounding=st.sampled_from(["ROUND", "FLOOR", "CEIL"]),
    is_signed=st.booleans(),
    stride=st.integers(1, 3),
)
def test_truncated_averages_compute_what_pytorch_does(
    kernel, kept, bits, rounding, is_signed, stride
):
    torch.manual_seed(0)
    kind = Int8ActPerTensorFixedPoint if is_signed else Uint8ActPerTensorFixedPoint
    first = qnn.QuantIdentity(kind, bit_width=bits, return_quant_tensor=True)
    assert_exact(settled(truncated(kernel, kept, rounding, first=first, stride=stride)))


@pytest.mark.parametrize(
    ("rounding", "first", "message"),
    [
        ("ROUND_TO_ZERO", None, "rounds signed sums by DOWN"),
        ("FLOOR", ShiftedUint8ActPerTensorFixedPoint, "truncates integers with a zero-point"),
    ],
)
def test_a_truncation_that_is_not_even_is_named_and_passes_once_edited(rounding, first, message):
    torch.manual_seed(0)
    quantizer = (
        None if first is None else qnn.QuantIdentity(first, bit_width=4, return_quant_tensor=True)
    )
    model = settled(truncated(2, 4, rounding, first=quantizer))
    assert checked(model) == [("1", "truncation", message)]
    assert_exact(settled(truncated(2, 4, "FLOOR")))
