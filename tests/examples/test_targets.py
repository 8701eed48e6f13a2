"""The script that measures what a choice of targets is worth, in its smallest form."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("sklearn", reason="needs the extra 'examples'")
SOURCE = Path(__file__).resolve().parents[2] / "examples" / "targets.py"
spec = importlib.util.spec_from_file_location("targets_example", SOURCE)
targets = importlib.util.module_from_spec(spec)
# Its dataclasses look for their module.
sys.modules[spec.name] = targets
spec.loader.exec_module(targets)


@pytest.mark.heavy
def test_it_measures_every_arm_and_writes_trials_and_figure(tmp_path, monkeypatch, capsys):
    arms = (targets.DEFAULT, targets.Arm("uniform"), targets.Arm(inner_steps=2))
    monkeypatch.setattr(targets, "ARMS", arms)
    monkeypatch.setattr(targets, "RATES", (3e-3,))
    targets.main(["--depths", "1", "--seeds", "2", "--epochs", "1", "--out", str(tmp_path)])
    trials = json.loads((tmp_path / "trials.json").read_text())
    depth, table = trials["1 hidden layers"], trials["a table in the middle"]
    assert list(depth) == ["gradient_sign", "uniform", "gradient_sign, 2 steps"]
    assert set(table) == {"above it only", "straight through"} | {
        f"local_search(candidates={candidates})" for candidates in (16, 64)
    }
    for found in (*depth.values(), *table.values()):
        assert [len(trial["accuracy"]) for trial in found] == [1, 1]
    assert depth["uniform"][0]["fall"] is not None
    assert 0 < depth["gradient_sign"][0]["separable"] <= 1
    assert (tmp_path / "targets.png").stat().st_size > 1000
    assert "in the time" in capsys.readouterr().out


def test_an_arm_counts_what_it_reached_in_the_defaults_time():
    trial = targets.Trial(accuracy=[50.0, 70.0, 80.0], seconds=[1.0, 2.0, 3.0])
    assert [trial.after(seconds) for seconds in (0.5, 2.5, 9.0)] == [None, 70.0, 80.0]


def test_the_gradient_straight_through_the_table_goes_to_both_units_of_a_pair():
    x = torch.tensor([[1.0, -1.0, -1.0, -1.0]], requires_grad=True)
    y = targets.StraightThroughTable()(x)
    (y * torch.tensor([2.0, 3.0])).sum().backward()
    assert y.tolist() == [[-1.0, 1.0]]
    assert x.grad.tolist() == [[2.0, 2.0, 3.0, 3.0]]
