"""How a generated network meets the check and the flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from brevitas_ftprop.export import ExportError, VerificationError
from brevitas_ftprop.export.deployable import DeployReport, check_deployable
from brevitas_ftprop.export.qonnx import qonnx_graph

# What export_finn and check_deployable are both asked for.
IO = ("images", "pixels", "mean", "std", "result")


@pytest.fixture
def judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[DeployReport, Exception | None]]:
    """The check's report, and what the flow raised when it ran all the same, unasked.

    Options are those of ``export_finn``; TorchScript, the faster exporter, by default.
    """

    def judge(
        model: nn.Module, example: Tensor, *, dynamo: bool = False, **options: Any
    ) -> tuple[DeployReport, Exception | None]:
        pytest.importorskip("finn")
        from brevitas_ftprop.export.finn import export_finn, finn_flow

        def unasked(model: nn.Module, example: Tensor, target: str, **options: Any) -> ModelProto:
            return qonnx_graph(model, example, dynamo=options["dynamo"])

        monkeypatch.setattr(finn_flow, "require_deployable", unasked)

        state = {name: value.clone() for name, value in model.state_dict().items()}
        io = {name: options[name] for name in IO if name in options}
        report = check_deployable(model, example, dynamo=dynamo, **io)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        try:
            export_finn(
                model,
                example,
                tmp_path / "out",
                dynamo=dynamo,
                progress=False,
                overwrite=True,
                **options,
            )
        except (ExportError, VerificationError) as error:
            return report, error
        return report, None

    return judge
