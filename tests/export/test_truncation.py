"""Truncating and size-rounding average pools, and roundings of biases: exact, or refused."""

from __future__ import annotations

from itertools import product

import brevitas.nn as qnn
import onnxruntime
import pytest
import torch
from brevitas.core.function_wrapper import CeilSte, FloorSte, RoundSte, RoundToZeroSte
from brevitas.core.scaling import TruncMsbScaling
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8BiasPerTensorFixedPointInternalScaling,
    RoundTo8bit,
    ShiftedUint8ActPerTensorFloat,
)
from torch import nn

from brevitas_ftprop.export import (
    ExportError,
    check_deployable,
    export_qcdq,
    export_qonnx,
    verify_export,
)

pytestmark = pytest.mark.cover(2)

EXPORTS = {"qonnx": export_qonnx, "qcdq": export_qcdq}
MODES = ("ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO")
STES = dict(zip(MODES, (RoundSte, FloorSte, CeilSte, RoundToZeroSte), strict=True))
BATCH = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def prepared(*layers: nn.Module) -> nn.Module:
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model(BATCH)
    return model.eval()


def truncated(pool: nn.Module, act_quant: type = Int8ActPerTensorFloat) -> nn.Module:
    return prepared(
        qnn.QuantIdentity(act_quant, bit_width=4, return_quant_tensor=True, collect_stats_steps=1),
        pool,
        nn.Flatten(),
        qnn.QuantLinear(12, 2, bias=False, weight_bit_width=4),
    )


@pytest.mark.parametrize("act_quant", [Int8ActPerTensorFloat, ShiftedUint8ActPerTensorFloat])
@pytest.mark.parametrize(("format", "mode"), product(EXPORTS, MODES))
def test_a_truncating_pool_computes_what_brevitas_does(format, mode, act_quant, tmp_path):
    pool = qnn.TruncAvgPool2d(4, 4, bit_width=4, float_to_int_impl_type=mode)
    model = truncated(pool, act_quant)
    path = EXPORTS[format](model, BATCH[:1], tmp_path / "model.onnx", dynamo=False)
    report = verify_export(model, path, BATCH)
    assert report.ok, str(report)


@pytest.mark.parametrize("format", EXPORTS)
def test_one_truncation_behind_inputs_of_two_scales_keeps_both(format, tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine, self.coarse = (
                qnn.QuantIdentity(Int8ActPerTensorFixedPoint, bit_width=b, return_quant_tensor=True)
                for b in (4, 6)
            )
            self.pool = qnn.TruncAvgPool2d(4, 4, bit_width=3, return_quant_tensor=False)

        def forward(self, x):
            return self.pool(self.fine(x)).flatten(1) + self.pool(self.coarse(x * 0.1)).flatten(1)

    model = prepared(Shared())
    path = EXPORTS[format](model, BATCH[:1], tmp_path / "model.onnx", dynamo=False)
    assert verify_export(model, path, BATCH).ok


@pytest.mark.parametrize("format", ["qcdq", pytest.param("qonnx", marks=pytest.mark.slow)])
def test_the_dynamo_exporter_writes_a_truncation_once_and_names_its_remedy(format, tmp_path):
    pool = qnn.TruncAvgPool2d(4, 4, bit_width=4, float_to_int_impl_type="FLOOR")
    model = truncated(pool)
    path = EXPORTS[format](model, BATCH[:1], tmp_path / "model.onnx")
    assert verify_export(model, path, BATCH).ok
    twice = prepared(
        *model[:2],
        qnn.QuantIdentity(return_quant_tensor=True),
        nn.Upsample(8),
        pool,
        qnn.QuantIdentity(),
    )
    with pytest.raises(ExportError, match="called twice; dynamo=False exports this model"):
        EXPORTS[format](twice, BATCH[:1], tmp_path / "twice.onnx")
    assert not (tmp_path / "twice.onnx").exists()
    (finding,) = check_deployable(twice, BATCH[:1], "qcdq", dynamo=True).errors
    assert finding.fix == "export with dynamo=False"
    assert check_deployable(twice, BATCH[:1], "qcdq", dynamo=False).ok


@pytest.mark.parametrize("format", EXPORTS)
@pytest.mark.parametrize(
    ("injected", "reason"),
    [
        ({"trunc_scaling_impl": type("Other", (TruncMsbScaling,), {})}, "scaled by Other"),
        ({"float_to_int_impl": type("Own", (RoundSte,), {})}, "rounds by Own"),
    ],
    ids=["scaling", "rounding"],
)
def test_a_truncation_of_a_users_own_is_refused_by_name(format, injected, reason, tmp_path):
    pool = qnn.TruncAvgPool2d(4, 4, trunc_quant=RoundTo8bit.let(**injected), bit_width=4)
    model = prepared(nn.Identity())
    model.extend([qnn.QuantIdentity(return_quant_tensor=True), pool, nn.Flatten()])
    model.append(qnn.QuantIdentity())
    with pytest.raises(ExportError, match=f"2.trunc_quant: a truncation (that )?.*{reason}"):
        EXPORTS[format](model.eval(), BATCH[:1], tmp_path / "model.onnx", dynamo=False)


@pytest.mark.parametrize(
    "rounded",
    [
        lambda mode: {"bias_float_to_int_impl_type": mode},
        lambda mode: {"bias_float_to_int_impl": STES[mode]},
    ],
    ids=["type", "module"],
)
@pytest.mark.parametrize(("format", "mode"), product(EXPORTS, MODES))
@pytest.mark.cover(1)
def test_every_rounding_of_a_bias_is_exact(format, mode, rounded, tmp_path):
    model = prepared(
        qnn.QuantIdentity(Int8ActPerTensorFixedPoint, return_quant_tensor=True),
        qnn.QuantConv2d(
            3,
            2,
            3,
            bias=True,
            bias_quant=Int8BiasPerTensorFixedPointInternalScaling,
            bias_bit_width=3,
            **rounded(mode),
        ),
    )
    path = EXPORTS[format](model, BATCH[:1], tmp_path / "model.onnx", dynamo=False)
    assert verify_export(model, path, BATCH).ok


@pytest.mark.parametrize("format", EXPORTS)
@pytest.mark.parametrize(
    ("kernel", "padding", "counts", "dynamo"),
    [
        (3, 0, True, False),
        (3, 0, True, True),
        (3, 0, False, False),
        (3, 1, False, False),
        (3, 1, True, False),
        (2, 0, True, False),
    ],
)
@pytest.mark.cover(1)
def test_an_average_pool_that_rounds_its_size_up_is_exact_or_refused(
    format, dynamo, kernel, padding, counts, tmp_path
):
    pool = nn.AvgPool2d(kernel, 2, padding, ceil_mode=True, count_include_pad=counts)
    act = [qnn.QuantIdentity(Int8ActPerTensorFixedPoint) for _ in range(2)]
    model = prepared(act[0], pool, act[1])
    if format == "qcdq" and padding and counts:
        with pytest.raises(ExportError, match=r"^export failed: 1 is an average pool"):
            export_qcdq(model, BATCH[:1], tmp_path / "model.onnx", dynamo=dynamo)
        assert not check_deployable(model, BATCH[:1], "qcdq", dynamo=dynamo).ok
        return
    path = EXPORTS[format](model, BATCH[:1], tmp_path / "model.onnx", dynamo=dynamo)
    report = verify_export(model, path, BATCH)
    # ONNX Runtime 1.20 counts elements beyond the padding, which 1.25 does not.
    assert report.ok or (counts and onnxruntime.__version__ < "1.25"), str(report)
