"""The script that measures what the monitor costs, in its smallest form."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from brevitas_ftprop.monitor import Monitor

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "monitor_cost.py"
spec = importlib.util.spec_from_file_location("monitor_cost", SOURCE)
monitor_cost = importlib.util.module_from_spec(spec)
spec.loader.exec_module(monitor_cost)


def test_the_cost_is_that_of_sampled_and_other_steps(capsys):
    step = Monitor.step
    cost = monitor_cost.main(["--batch-size", "2", "--rounds", "1", "--every", "10"])
    # How large they are is not for a test to say; that something was timed is.
    assert 0 < cost["otherwise"] < cost["sampled"]
    expected = (cost["sampled"] + 9 * cost["otherwise"]) / 10 / cost["step"]
    assert abs(cost["cost"] - expected) < 1e-9
    assert "one step in 10 is sampled" in capsys.readouterr().out
    assert Monitor.step is step
