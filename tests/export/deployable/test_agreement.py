"""The check says of each target what its export does, on models of every kind."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from qonnx.core.modelwrapper import ModelWrapper
from torch import Tensor, nn

from brevitas_ftprop.export import ExportError, check_deployable, export_qcdq, export_qonnx
from brevitas_ftprop.export.finn import export_finn
from brevitas_ftprop.export.hls4ml.hardware_graph import hardware_graph
from tests.export.deployable.mixtures import draw_mixture

SEEDS = range(300)
# For every commit: of each target some that are accepted, and some that are not.
QUICK = (0, 3, 29, 46, 118)
# Of models of anything few fit FINN: ``test_generated`` draws those that may.
LEAST_ACCEPTED = {"qcdq": 100, "hls4ml": 80, "finn": 12}
DYNAMO_SHARE = 1 / 8


class CompilerReachedError(BaseException):
    """FINN's own transformations would begin; no error that a step may have."""


def to_qcdq(model: nn.Module, example: Tensor, path: Path, *, dynamo: bool) -> None:
    export_qcdq(model, example, path / "model.onnx", dynamo=dynamo)


def to_hls4ml(model: nn.Module, example: Tensor, path: Path, *, dynamo: bool) -> None:
    """What ``export_hls4ml`` does before hls4ml begins, without asking the check first."""
    file = export_qonnx(model, example[:1], path / "model.onnx", dynamo=dynamo)
    hardware_graph(ModelWrapper(str(file)))


def to_finn(model: nn.Module, example: Tensor, path: Path, *, dynamo: bool) -> None:
    """``export_finn`` up to its first step that is not the export."""
    with contextlib.suppress(CompilerReachedError):
        export_finn(model, example, path / "out", dynamo=dynamo, progress=False)


EXPORTS = {"qcdq": to_qcdq, "hls4ml": to_hls4ml, "finn": to_finn}
NEEDS_FINN = pytest.mark.skipif(find_spec("finn") is None, reason="needs the extra 'finn'")
TARGETS = [pytest.param(name, marks=[NEEDS_FINN] * (name == "finn")) for name in EXPORTS]


@pytest.fixture
def assert_agreement(tmp_path, monkeypatch) -> Callable[[str, int], bool]:
    def stop(*args):
        raise CompilerReachedError

    if find_spec("finn") is not None:
        from brevitas_ftprop.export.finn.flow_steps import STEPS

        monkeypatch.setitem(STEPS, next(iter(STEPS)), stop)

    def agree(target: str, seed: int) -> bool:
        """Whether both accept; fails where they differ."""
        model, example = draw_mixture(seed)
        dynamo = random.Random(f"exporter {seed}").random() < DYNAMO_SHARE
        report = check_deployable(model, example, target, dynamo=dynamo)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        folder = tmp_path / f"{target}{seed}"
        folder.mkdir()
        try:
            EXPORTS[target](model, example, folder, dynamo=dynamo)
            error = None
        except (ExportError, ValueError) as caught:
            error = caught
        said = f"seed {seed}, dynamo={dynamo}: {report}\n{error}\n{model}"
        assert report.ok is (error is None), said
        assert error is None or "IndexError" not in str(error), said
        for name, value in model.state_dict().items():
            assert value.equal(before[name]) or value.isnan().any(), name
        return report.ok

    return agree


@pytest.mark.parametrize("target", TARGETS)
def test_the_check_and_the_export_agree(target, assert_agreement):
    accepted = [assert_agreement(target, seed) for seed in QUICK]
    assert any(accepted)
    assert not all(accepted)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_check_and_the_export_agree_on_300_models(target, assert_agreement):
    accepted = sum(assert_agreement(target, seed) for seed in SEEDS)
    print(f"{target}: {accepted} of {len(SEEDS)} models are accepted by both, no disagreement")
    assert accepted >= LEAST_ACCEPTED[target]
