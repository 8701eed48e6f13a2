"""Help waits for nothing heavy, and no command begins with what libraries say of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from torch.utils import cpp_extension

from brevitas_ftprop.quiet_imports import CUDA_MESSAGE
from tests.cli.commands import REPO

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")

HEAVY = ("torch", "brevitas", "onnx", "numpy", "matplotlib")
COMMANDS = (
    (),
    ("rules",),
    ("targets",),
    ("quantize",),
    ("check",),
    ("export",),
    *(("export", name) for name in ("qonnx", "qcdq", "finn", "hls4ml")),
    ("verify",),
    ("simulate",),
)
HELP = f"""
import contextlib, io, sys
from brevitas_ftprop.cli import main

for command in {COMMANDS!r}:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    assert "Usage: " in shown.getvalue(), command
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""


def started(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPO), **environment},
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )


def test_help_of_every_command_imports_neither_torch_nor_brevitas_nor_onnx():
    assert started("-c", HELP).stdout == "[]\n"


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "brevitas_ftprop", "rules", "ste"),
        # The trainer imports them too.
        pytest.param(
            ("-c", "import brevitas_ftprop; brevitas_ftprop.handlers"), marks=pytest.mark.slow
        ),
        ("examples/train.py", "--help"),
        pytest.param(("examples/targets.py", "--help"), marks=pytest.mark.slow),
    ],
    ids=["command line", "library", "trainer", "example"],
)
def test_nothing_is_said_before_the_command_itself_speaks(command, tmp_path):
    # A compiler without a card, which PyTorch's extensions speak of.
    finished = started(*command, CUDA_HOME=str(tmp_path), CUDA_VISIBLE_DEVICES="")
    said = finished.stderr.splitlines()
    if not hasattr(cpp_extension, "logger"):
        # Older ones print it, where nothing can leave it out.
        said = [line for line in said if not line.startswith(CUDA_MESSAGE)]
    assert said == []
