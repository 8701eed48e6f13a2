"""For hls4ml and QCDQ too the check says what the export does, on generated networks."""

from __future__ import annotations

import pytest
from qonnx.core.modelwrapper import ModelWrapper

from brevitas_ftprop.export import ExportError, check_deployable, export_qcdq, export_qonnx
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from tests.export.deployable.architectures import build, draw, example

QUICK = (2, 3, 8, 20)
SEEDS = range(60)
ALL = [
    pytest.param(seed, marks=() if seed in QUICK else pytest.mark.slow, id=str(seed))
    for seed in SEEDS
]


def to_hls4ml(model, images, path):
    """What ``export_hls4ml`` does before it needs hls4ml."""
    hardware_graph(ModelWrapper(str(export_qonnx(model, images, path, dynamo=False))))


def to_qcdq(model, images, path):
    export_qcdq(model, images, path, dynamo=False)


@pytest.mark.parametrize(("target", "export"), [("hls4ml", to_hls4ml), ("qcdq", to_qcdq)])
@pytest.mark.parametrize("seed", ALL)
def test_the_check_predicts_what_the_export_does(target, export, seed, tmp_path):
    spec = draw(seed)
    model, images = build(spec), example(spec)
    report = check_deployable(model, images, target, dynamo=False)
    if report.ok:
        export(model, images, tmp_path / "model.onnx")
    else:
        with pytest.raises(ExportError):
            export(model, images, tmp_path / "model.onnx")
