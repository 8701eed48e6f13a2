"""Public names are there when they are asked for, and importing the package stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import brevitas_ftprop
from brevitas_ftprop import export

REPO = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("package", [brevitas_ftprop, export], ids=lambda p: p.__name__)
def test_every_public_name_is_found_and_listed(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", [brevitas_ftprop, export], ids=lambda p: p.__name__)
def test_a_name_that_is_none_is_refused(package):
    with pytest.raises(AttributeError, match="has no attribute 'export_keras'"):
        _ = package.export_keras


def test_both_packages_give_the_same_objects():
    for name in set(brevitas_ftprop.__all__) & set(export.__all__):
        assert getattr(brevitas_ftprop, name) is getattr(export, name)


def test_importing_the_package_registers_its_handlers_and_imports_no_export():
    code = (
        "import sys, brevitas_ftprop as package\n"
        "from brevitas.export.onnx.qonnx.manager import QONNXManager\n"
        "assert package.handlers.QONNXActHandler in QONNXManager.handlers\n"
        "late = [m for m in sys.modules if m.startswith(('qonnx', 'brevitas_ftprop.export.'))]\n"
        "assert late == ['brevitas_ftprop.export.errors'], late\n"
        "assert package.export_qonnx.__module__ == 'brevitas_ftprop.export.qonnx'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO, timeout=600)
