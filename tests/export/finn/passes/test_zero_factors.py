"""What FINN makes of channels with a batch-norm weight of 0 is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
def test_a_pruned_channel_is_exact_on_both_sides_of_its_threshold(one_block, zero, tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    one_block(torch.randn(8, 3, 8, 8))
    with torch.no_grad():
        one_block[2].weight[:3] = zero
        one_block[2].bias[:3] = torch.tensor([0.0, 0.5, -0.5])
    example = torch.randn(1, 3, 8, 8)
    report = export_finn(one_block.eval(), example, tmp_path / "out", dynamo=False, progress=False)
    assert report.ok
    assert not any(step.mismatches or step.excused for step in report.steps)
