"""What pytest makes of modules of tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.mark.heavy
def test_a_module_that_cannot_be_imported_is_an_error(tmp_path):
    broken = tmp_path / "test_broken.py"
    broken.write_text("import no_such_module\n\n\ndef test_nothing():\n    pass\n")
    options = ["-n", "0", "-p", "tests.conftest", "-c", str(REPO / "pyproject.toml")]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-o", f"cache_dir={tmp_path}", str(broken)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert "test_broken.py cannot be imported" in finished.stdout
    assert finished.returncode == 2, finished.stdout
