"""A constant that a model quantizes, such as a position embedding, is verified as what it is."""

from __future__ import annotations

import brevitas.nn as qnn
import pytest
import torch
from torch import nn

from brevitas_ftprop.export import export_qcdq, export_qonnx, verify_export
from brevitas_ftprop.quant import TargetPropInt8ActPerTensorFloatMinMaxInit

BATCH = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


class Positioned(nn.Module):
    """A quantizer that is called on the input and on an embedding."""

    def __init__(self):
        super().__init__()
        self.act = qnn.QuantIdentity(
            TargetPropInt8ActPerTensorFloatMinMaxInit, min_val=-2.0, max_val=2.0, bit_width=4
        )
        self.position = nn.Parameter(torch.linspace(-1, 1, 6)[None])
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.act(x) + self.act(self.position))


@pytest.mark.parametrize(("dynamo", "images"), [(False, 1), (True, 4)])
@pytest.mark.parametrize("export", [export_qonnx, export_qcdq], ids=["qonnx", "qcdq"])
def test_a_quantized_constant_verifies_and_another_one_does_not(export, dynamo, images, tmp_path):
    model = Positioned().eval()
    path = export(model, BATCH[:images], tmp_path / "model.onnx", dynamo=dynamo)
    assert verify_export(model, path, BATCH).ok
    with torch.no_grad():
        model.position[0, 2] += 0.5
    report = verify_export(model, path, BATCH)
    assert not report.ok
    assert report.first_difference == "act.act_quant#1"
