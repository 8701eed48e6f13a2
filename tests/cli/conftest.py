"""A user's folder with models and checkpoints, good and bad, and commands that run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.commands import FLAGS, REPO

# The factories that a user would have in the current directory.
NETS = '''
import os
import torch
from brevitas import nn as qnn
from brevitas.quant import SignedBinaryActPerTensorConst
from brevitas_ftprop.models import ConvNet4


def tiny(act="staircase3", width=4):
    print("from Python")
    os.write(1, b"from native code\\n")
    return ConvNet4(10, 8, channels=(4, width), fc=8, form="hardware", act=act)


class Wrong(torch.nn.Sequential):
    """Interrupted in its second run, the first of the export."""

    runs = 0

    def forward(self, x):
        Wrong.runs += 1
        if Wrong.runs == 2:
            raise KeyboardInterrupt
        return super().forward(x)


def small():
    return torch.nn.Sequential(
        qnn.QuantIdentity(),
        qnn.QuantLinear(4, 4, bias=False),
        qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
        qnn.QuantLinear(4, 2, bias=False),
    )


def interrupted():
    return Wrong(*small())


def unquantized_input():
    return qnn.QuantLinear(4, 2, bias=False)


def failing():
    return {}["nothing"]


def failing_in_torch(classes=2):
    return torch.nn.Linear(4, classes)


def floating_of_images():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
    )


def floating(features=6):
    return torch.nn.Sequential(
        torch.nn.Linear(4, features), torch.nn.ReLU(), torch.nn.Linear(features, 2)
    )


a_model = small()
a_float_model = torch.nn.Linear(4, 2)
a_number = 1
'''


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pickled code ran",)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A user's folder: a module, and checkpoints, batches and a file that are good or bad."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "cli_nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        import cli_nets

        patch.delitem(sys.modules, "cli_nets")
        torch.manual_seed(1)
        state = cli_nets.tiny().state_dict()
        torch.save(state, "good.pt")
        wrapped = {f"_orig_mod.model.{key}": value for key, value in state.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, "wrapped.pt")
        torch.save({"model": state}, "under_model.pt")
        torch.save({"model": state, "hook": Evil()}, "evil.pt")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), "script.pt")
        torch.save(cli_nets.tiny(width=5).state_dict(), "wider.pt")
        small = cli_nets.small()
        # The scales of its activations come from what it sees.
        small(torch.randn(8, 4))
        torch.save(small.state_dict(), "small.pt")
        torch.save({"epoch": 3}, "no_state.pt")
        torch.save(cli_nets.floating().state_dict(), "floating.pt")
        Path("garbage.pt").write_bytes(b"not a checkpoint")
        Path("empty.pt").touch()
        Path("cut.pt").write_bytes(Path("good.pt").read_bytes()[:3000])
        torch.save({**state, "classifier.fc0.weight": torch.full((8, 16), torch.nan)}, "nan.pt")
        np.save("three.npy", np.random.randn(3, 3, 8, 8))
        np.save("objects.npy", np.array([{}], dtype=object))
        Path("damaged.onnx").write_bytes(b"\x08\x07not an ONNX file")
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    """Run a command in the user's folder; any exception that is not an exit is raised."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "cli_nets", raising=False)
    from typer.testing import CliRunner

    from brevitas_ftprop.cli.app import app

    def run(*arguments: str):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def exported(folder):
    """A QONNX file in batches of two, written by the command itself in a process of its own."""
    command = [sys.executable, "-m", "brevitas_ftprop", "export", "qonnx", "cli_nets:tiny"]
    options = ["--checkpoint", "wrapped.pt", "--input-shape", "2,3,8,8", "--out", "tiny.onnx"]
    finished = subprocess.run(
        [*command, *options, *FLAGS, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished
