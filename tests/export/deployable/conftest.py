"""How a generated network meets the check and the flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from brevitas_ftprop.export import ExportError, VerificationError
from brevitas_ftprop.export.deployable import DeployReport, check_deployable


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[nn.Module, Tensor], tuple[DeployReport, Exception | None]]:
    """The check's report, and what the flow raised when it ran all the same."""

    def judge(model: nn.Module, images: Tensor) -> tuple[DeployReport, Exception | None]:
        pytest.importorskip("finn")
        from brevitas_ftprop.export.finn import export_finn

        state = {name: value.clone() for name, value in model.state_dict().items()}
        report = check_deployable(model, images, dynamo=False)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        try:
            export_finn(
                model, images, tmp_path / "out", dynamo=False, progress=False, overwrite=True
            )
        except (ExportError, VerificationError) as error:
            return report, error
        return report, None

    return judge
