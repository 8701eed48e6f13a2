"""Behind streamlining, a graph's numbers and thresholds are judged along each channel's line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.export import VerificationError
from brevitas_ftprop.export.verification.pre_activations import Interval, Lines

SLOPES, OFFSETS = np.array([0.5, 2.0]), np.array([-1.0, 3.0])
ERROR = 1e-6


def z_of(numbers: np.ndarray) -> np.ndarray:
    """PyTorch's pre-activations (1, 2, …) of a graph's integers."""
    columns = (1, -1, *(1,) * (numbers.ndim - 2))
    return SLOPES.reshape(columns) * numbers + OFFSETS.reshape(columns)


def around(z: np.ndarray) -> Interval:
    return Interval.around(z - ERROR / 2, z + ERROR / 2)


@pytest.fixture
def lines() -> Lines:
    lines = Lines()
    for image in (np.array([[[-8, 3], [5, 6]]]), np.array([[[2, 9], [7, 5]]])):
        lines.add(image.astype(float), around(z_of(image)))
    return lines


def agrees(lines, number, channel, *, own, found, z=None, whole=True) -> bool:
    z = SLOPES[channel] * number + OFFSETS[channel] if z is None else z
    one = [np.array([value], dtype=float) for value in (number, own, found)]
    interval = around(np.array([z], dtype=float))
    channels = np.array([channel])
    return bool(lines.agree(one[0], channels, interval, (one[1], one[2]), whole=whole)[0])


def test_a_threshold_lies_where_the_line_has_the_quantizers_own(lines):
    # Channel 0: z = 0 at the number 2, channel 1: z = 12 at the number 4.5.
    assert agrees(lines, 2, 0, own=0, found=2)
    assert agrees(lines, 2, 0, own=ERROR / 8, found=3)  # Rounded up.
    assert not agrees(lines, 2, 0, own=0, found=4)
    assert not agrees(lines, 2, 0, own=0, found=1)
    assert agrees(lines, 4, 1, own=12, found=5)
    assert not agrees(lines, 4, 1, own=12, found=4)
    assert agrees(lines, 4, 1, own=12, found=4.5, whole=False)
    assert not agrees(lines, 4, 1, own=12, found=5, whole=False)


def test_a_number_off_the_line_is_told(lines):
    assert agrees(lines, 2, 0, own=0, found=2, z=ERROR)
    assert not agrees(lines, 2, 0, own=0, found=2, z=0.1)
    assert not agrees(lines, 4, 0, own=0, found=2, z=0.0)


def test_beyond_the_numbers_seen_a_line_goes_on(lines):
    assert agrees(lines, 100, 0, own=49, found=100)
    assert not agrees(lines, 100, 0, own=49, found=102)


def test_one_number_tells_no_line():
    lines = Lines()
    lines.add(np.full((1, 2, 3), 4.0), around(z_of(np.full((1, 2, 3), 4.0))))
    assert agrees(lines, 4, 0, own=1, found=999)


def test_a_line_is_that_of_the_units_that_no_relu_has_cut_off():
    numbers = np.array([[[-90.0, -8, 3, 5], [-70, 5, 6, 9]]])
    lines = Lines()
    lines.add(numbers, around(np.maximum(z_of(numbers), 0)))
    assert agrees(lines, 4, 0, own=1, found=4)
    assert not agrees(lines, 4, 0, own=1, found=5.5)
    assert agrees(lines, 4, 1, own=11, found=4)
    assert not agrees(lines, 4, 1, own=11, found=2)


def network() -> nn.Module:
    """Even sums, of which many lie exactly on the threshold, a mean of 2."""
    torch.manual_seed(1)
    weights = {"weight_quant": quant.TargetPropSignedBinaryWeightPerTensorUnit, "bias": False}
    sign = quant.TargetPropSignedBinaryActPerTensorConst
    model = nn.Sequential(
        QuantIdentity(sign),
        QuantConv2d(4, 16, 1, **weights),
        nn.BatchNorm2d(16),
        QuantIdentity(sign),
        nn.Flatten(),
        QuantLinear(256, 4, **weights),
    )
    model[2].running_mean.fill_(2.0)
    return model.eval()


@pytest.mark.parametrize("by", [1, 2], ids=["rounded up", "one too far"])
def test_a_threshold_moved_where_only_ties_feel_it(by, monkeypatch, tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn import export_finn, flow_steps

    original = flow_steps.STEPS["streamlined"]

    def moved(*given):
        model = original(*given)
        node = next(
            node
            for node in model.graph.node
            if any(entry.value == "3.act_quant" for entry in node.metadata_props)
        )
        thresholds = model.get_initializer(node.input[1])
        model.set_initializer(node.input[1], thresholds + np.float32(by))
        return model

    monkeypatch.setitem(flow_steps.STEPS, "streamlined", moved)
    options = {"batch": torch.randn(4, 4, 4, 4), "dynamo": False, "progress": False}
    if by == 1:
        report = export_finn(network(), torch.randn(1, 4, 4, 4), tmp_path / "out", **options)
        assert report.steps[3].excused > 0
    else:
        with pytest.raises(VerificationError, match=r"step streamlined .* first at .*3\.act_quant"):
            export_finn(network(), torch.randn(1, 4, 4, 4), tmp_path / "out", **options)
