"""FINN, QONNX and the process are lent to a flow, and are behind it as they were."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from brevitas_ftprop.export import ExportError
from brevitas_ftprop.export.finn import export_finn
from brevitas_ftprop.export.finn.environment import VARIABLES, finn_environment

pytest.importorskip("finn", reason="needs the extra 'finn'")

import finn.xsi
from finn.custom_op.fpgadataflow.rtl.thresholding_rtl import Thresholding_rtl
from finn.util import settings
from qonnx.transformation.remove import RemoveIdentityOps


def held() -> Iterator[tuple[str, Any]]:
    """All that the modules of FINN and QONNX hold, and their classes, but modules."""
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in ("finn", "qonnx"):
            for key, value in vars(module).items():
                if not isinstance(value, ModuleType):
                    yield f"{name}.{key}", value
                if isinstance(value, type):
                    yield from (
                        (f"{name}.{key}.{each}", part) for each, part in vars(value).items()
                    )


def environment() -> dict[str, str]:
    # Of these pytest sets one, and scikit-learn, which FINN imports, the others for good.
    apart = ("PYTEST_", "KMP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(apart)}


@pytest.fixture
def fresh(monkeypatch):
    """A process in which nothing has used FINN; its variables and settings are those of one."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings, "_SETTINGS", None)


@pytest.fixture
def assert_untouched(fresh):
    """Fails unless all that was there is there, and nothing of ours."""
    before, variables = dict(held()), environment()

    def assert_untouched() -> None:
        after = dict(held())
        assert [name for name in before if after.get(name) is not before[name]] == []
        ours = [n for n, v in after.items() if "brevitas" in str(getattr(v, "__module__", ""))]
        assert ours == []
        assert not finn.xsi._LAZY_NAMES & vars(finn.xsi).keys()
        assert environment() == variables

    return assert_untouched


def is_set_up() -> bool:
    parts = (
        RemoveIdentityOps.apply.__module__.startswith("brevitas"),
        Thresholding_rtl.minimize_weight_bit_width.__module__.startswith("brevitas"),
        "SimEngine" in vars(finn.xsi),
        settings._SETTINGS is not None,
        {"FINN_BUILD_DIR", "NUM_DEFAULT_WORKERS"} <= os.environ.keys(),
    )
    assert all(parts) or not any(parts), parts
    return all(parts)


def test_flows_follow_each_other_also_behind_one_that_failed_and_leave_finn_untouched(
    one_block, tmp_path, monkeypatch, assert_untouched
):
    from brevitas_ftprop.export.finn.flow_steps import STEPS

    def fails(model, io, config):
        assert is_set_up()
        raise AssertionError("inside FINN")

    options = {"dynamo": False, "progress": False}
    example = torch.randn(1, 3, 8, 8)
    one_block(torch.randn(8, 3, 8, 8))
    one_block.eval()
    with monkeypatch.context() as patched:
        patched.setitem(STEPS, "hardware", fails)
        with pytest.raises(ExportError, match="step hardware failed"):
            export_finn(one_block, example, tmp_path / "failed", **options)
    assert_untouched()
    for folder in ("first", "second"):
        assert export_finn(one_block, example, tmp_path / folder, **options).ok
        assert_untouched()


def test_an_error_in_the_block_restores_all_of_it(assert_untouched):
    folders = []

    def fails():
        assert is_set_up()
        folders.append(Path(os.environ["FINN_BUILD_DIR"]))
        assert folders[0].is_dir()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), finn_environment():
        fails()
    assert not folders[0].exists()
    assert_untouched()


def test_the_last_of_several_users_gives_it_back_whoever_came_first(assert_untouched):
    first, second = ExitStack(), ExitStack()
    first.enter_context(finn_environment())
    second.enter_context(finn_environment())
    with finn_environment():
        first.close()
    assert is_set_up()
    second.close()
    assert not is_set_up()
    assert_untouched()


def test_a_build_folder_of_the_users_own_is_made_and_kept(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("FINN_BUILD_DIR", str(tmp_path / "builds"))
    with finn_environment():
        assert settings.get_settings().finn_build_dir == tmp_path / "builds"
        assert (tmp_path / "builds").is_dir()
    assert os.environ["FINN_BUILD_DIR"] == str(tmp_path / "builds")


def test_an_environment_that_cannot_be_set_up_leaves_nothing(monkeypatch, assert_untouched):
    def fails():
        raise OSError("no settings")

    with monkeypatch.context() as patched:
        patched.setattr(settings, "initialize_dummy_settings", fails)
        with pytest.raises(OSError, match="no settings"), finn_environment():
            pass
    assert_untouched()
    with finn_environment():
        assert is_set_up()
    assert_untouched()
