"""Trials on a cluster give the results of trials here, and go on where a machine dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra 'cluster'")

import compare
from comparison.report import Comparison
from ray.cluster_utils import Cluster as Machines

RECIPE = """
model_options: {channels: [4, 4], fc: 8}
epochs: 6
data: {name: random, image_size: 8, train_images: 64, test_images: 32}
"""
COMMON = ["--acts", "sign", "--accelerator", "cpu", "--seeds", "1", "--rules", "soft_hinge", "ste"]
COMMON += ["--reference", "ste"]
ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def weights(folder: Path) -> dict[str, str]:
    runs = Comparison.read(folder / "comparison.json").runs
    return {f"{run.recipe['rule']} {run.recipe['seed']}": run.final_weights for run in runs}


def run(recipe: Path, out: str, *options: str) -> int:
    return compare.main([str(recipe), *COMMON, "--out", out, *options])


def test_a_trial_whose_machine_dies_goes_on_elsewhere_and_ends_in_the_same_bits(recipe, tmp_path):
    assert run(recipe, "here") == 0
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
    first = machines.add_node(num_cpus=1)
    checkpoints = tmp_path / "there" / "runs"

    command = [compare.__file__, str(recipe), *COMMON, "--out", "there"]
    comparing = subprocess.Popen(
        [sys.executable, *command, "--cluster", machines.address],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        end = time.monotonic() + 300
        while not list(checkpoints.glob("*/checkpoints/*.ckpt")) and time.monotonic() < end:
            time.sleep(0.01)
        machines.remove_node(first, allow_graceful=False)
        machines.add_node(num_cpus=1)
        assert comparing.wait(300) == 0
    finally:
        comparing.kill()
        machines.shutdown()
    assert weights(tmp_path / "there") == weights(tmp_path / "here")
    assert any(each.resumed for each in Comparison.read(tmp_path / "there/comparison.json").runs)


def test_a_cluster_that_is_not_there_is_one_sentence(recipe, capsys):
    assert run(recipe, "out", "--cluster", "127.0.0.1:1") == 1
    assert "no Ray cluster answers at 127.0.0.1:1" in capsys.readouterr().err
