"""The six commands of the page, in a folder with what a new user would have there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("finn", reason="needs the extra 'finn'")

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## Your own network, on an FPGA"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
AGAIN = """
from brevitas_ftprop import export_finn, load_run

run = load_run("run")
export_finn(run.model, run.example, "again", result="class", **run.pixels)
"""
CLASSES = ("blue", "green", "red")


def blocks(kind: str) -> list[str]:
    page = (ROOT / "examples" / "README.md").read_text()
    section = page.partition(f"{SECTION}\n")[2].partition("\n## ")[0]
    return [text for found, text in BLOCK.findall(section) if found == kind]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A network, a rule, and images whose color tells their class."""
    nets, rules = blocks("python")
    (tmp_path / "nets.py").write_text(nets)
    (tmp_path / "myrules.py").write_text(rules)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 10)):
        for number, name in enumerate(CLASSES):
            images = tmp_path / "photos" / part / name
            images.mkdir(parents=True)
            for each in range(count):
                pixels = random.integers(0, 200, (16, 16, 3))
                pixels[..., 2 - number] += 40
                Image.fromarray(pixels.astype(np.uint8)).save(images / f"{each:02}.png")
    return tmp_path


def called(command: list[str], folder: Path) -> str:
    scripts = str(Path(sys.executable).parent)
    found = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.slow
def test_six_commands_bring_an_own_network_rule_and_images_to_a_verified_folder(folder):
    (commands,) = blocks("bash")
    install, *others = map(shlex.split, commands.splitlines())
    assert install[-1] == ".[cli,examples,finn]"
    assert len(others) <= 5
    told = [called(command, folder) for command in others]
    assert told[0].endswith("finn: no findings\n")
    assert "brevitas-ftprop export finn --run run" in told[1]
    accuracy = json.loads((folder / "run" / "result.json").read_text())["test_accuracy"]
    assert accuracy > 0.9
    assert f"accuracy on 30 images: the file's {accuracy:.2%}" in told[3]
    report = json.loads((folder / "fpga" / "report.json").read_text())
    assert (report["ok"], report["untrained"]) == (True, False)
    assert [step["same_class"] for step in report["steps"]] == [30] * len(report["steps"])
    called([sys.executable, "-c", AGAIN], folder)
    again = json.loads((folder / "again" / "report.json").read_text())
    assert (again["ok"], again["io"]) == (True, report["io"])
