"""What a torch without Brevitas' dynamo exporter says when it is asked for that."""

from __future__ import annotations

import pytest
import torch
from brevitas.nn import QuantLinear

from brevitas_ftprop.export import MissingToolError, export_qcdq, export_qonnx, tracing


@pytest.mark.parametrize("export", [export_qonnx, export_qcdq])
def test_the_dynamo_exporter_is_refused_with_the_torch_it_needs(export, monkeypatch, tmp_path):
    monkeypatch.setattr(tracing, "DYNAMO_SINCE", "99.0")
    monkeypatch.setattr(tracing, "MissingToolError", MissingToolError)
    file, message = tmp_path / "model.onnx", r"needs torch 99\.0, .*: export with dynamo=False"
    with pytest.raises(MissingToolError, match=message):
        export(QuantLinear(4, 2, bias=False), torch.zeros(1, 4), file)
    assert not file.exists()
    assert export(QuantLinear(4, 2, bias=False), torch.zeros(1, 4), file, dynamo=False) == file
