"""What FINN makes of channels with a batch-norm weight of 0 is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export.finn import export_finn
from brevitas_ftprop.export.finn.passes import ReachConstantThresholds


def test_thresholds_of_nan_are_always_reached_and_others_stay(make_node, make_graph):
    graph = make_graph(
        [make_node("MultiThreshold", ["x", "t"], "y", out_dtype="UINT2")],
        (1, 2),
        t=np.array([[-1, np.nan, 2], [0, 1, 2]], np.float32),
    )
    graph = graph.transform(ReachConstantThresholds())
    expected = [[-1, -np.inf, 2], [0, 1, 2]]
    np.testing.assert_array_equal(graph.get_initializer("t"), expected)


@pytest.mark.parametrize("zero", [0.0, -0.0], ids=["zero", "minus zero"])
def test_a_pruned_channel_is_exact_on_both_sides_of_its_threshold(zero, tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    torch.manual_seed(0)
    model = nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropInt8ActPerTensorFixedPoint),
        QuantConv2d(
            3,
            4,
            3,
            bias=False,
            weight_quant=quant.TargetPropInt8WeightPerTensorFixedPoint,
            weight_bit_width=4,
        ),
        nn.BatchNorm2d(4),
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst),
    )
    model(torch.randn(8, 3, 8, 8))
    with torch.no_grad():
        model[2].weight[:3] = zero
        model[2].bias[:3] = torch.tensor([0.0, 0.5, -0.5])
    example = torch.randn(1, 3, 8, 8)
    report = export_finn(model.eval(), example, tmp_path / "out", dynamo=False, progress=False)
    assert report.ok
    assert not any(step.mismatches or step.excused for step in report.steps)
