"""What networks of others are made of goes through the flow, no integer different."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8WeightPerChannelFloat, Int32Bias
from torch import nn

from brevitas_ftprop.export.deployable import check_deployable
from examples.others.catalogue import settled

TENSOR = {"return_quant_tensor": True}


def test_biases_pools_and_flattenings_of_others_in_one_small_network(tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn import export_finn

    torch.manual_seed(0)
    biased = {"bias": True, "bias_quant": Int32Bias, "weight_quant": Int8WeightPerChannelFloat}
    layers = [
        qnn.QuantIdentity(**TENSOR),
        qnn.QuantConv2d(3, 4, 3, **biased),
        qnn.QuantReLU(bit_width=4, **TENSOR),
        qnn.TruncAvgPool2d(2, bit_width=4, float_to_int_impl_type="FLOOR"),
        nn.AdaptiveAvgPool2d(3),
        qnn.QuantConv2d(4, 4, 1, **biased),
        nn.Flatten(),
        qnn.QuantReLU(bit_width=3, **TENSOR),
        qnn.QuantLinear(36, 5, **biased),
    ]
    model = settled(nn.Sequential(*layers), torch.randn(4, 3, 8, 8)).eval()
    example = torch.randn(1, 3, 8, 8)
    options = {"dynamo": False, "progress": False, "batch": torch.randn(4, 3, 8, 8)}
    assert check_deployable(model, example, dynamo=False).ok
    report = export_finn(model, example, tmp_path / "out", **options)
    assert report.ok, str(report)
    assert report.steps[-1].software_nodes == []
    assert report.steps[-1].mismatches == 0


def test_a_bias_takes_the_finer_scale_of_a_truncation_that_keeps_every_bit(tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn import export_finn

    torch.manual_seed(0)
    layers = [
        qnn.QuantIdentity(**TENSOR),
        qnn.QuantConv2d(3, 4, 3, bias=False),
        qnn.QuantReLU(bit_width=4, **TENSOR),
        qnn.TruncAvgPool2d(2, bit_width=8),
        nn.Flatten(),
        qnn.QuantLinear(4, 5, bias=True, bias_quant=Int32Bias),
    ]
    model = settled(nn.Sequential(*layers), torch.randn(4, 3, 4, 4)).eval()
    images = torch.randn(16, 3, 4, 4)
    pooled = model[:4](images)
    # Sums of four integers of four bits need six.
    assert pooled.scale < model[:3](images).scale / 8
    options = {"dynamo": False, "result": "class"}
    assert check_deployable(model, images[:1], **options).ok
    report = export_finn(
        model, images[:1], tmp_path / "out", batch=images, progress=False, **options
    )
    assert report.ok, str(report)
