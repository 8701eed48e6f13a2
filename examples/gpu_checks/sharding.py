"""A pytest plugin: one process's share of the tests, up to a deadline, each result a line."""

from __future__ import annotations

import json
import os
import time

import pytest

SHARD, RECORD, DEADLINE = "GPU_CHECK_SHARD", "GPU_CHECK_RECORD", "GPU_CHECK_DEADLINE"
# Behind it every call to the device fails in this process, whatever it computes.
LOST = ("CUDA error: an illegal memory access", "CUDA error: misaligned", "CUDA error: unspecified")

lost = False


def _tell(**result: object) -> None:
    with open(os.environ[RECORD], "a") as file:
        file.write(json.dumps(result) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shard, shards = map(int, os.environ[SHARD].split("/"))
    # A test that takes long has neighbours that do: they go to different processes.
    items[:] = items[shard::shards]


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    is_late = time.time() >= float(os.environ[DEADLINE])
    if is_late or lost:
        left = len(item.session.items) - item.session.items.index(item)
        why = "" if is_late else " behind one that took the device from its process"
        _tell(outcome="left out", text=f"{left} tests{why}")
        pytest.exit("no time is left, or no device", returncode=0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    global lost
    if report.when == "call" or report.outcome != "passed":
        is_told = isinstance(report.longrepr, tuple)
        text = report.longrepr[2] if is_told else report.longreprtext
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        _tell(test=report.nodeid, outcome=outcome, text=text if outcome != "passed" else "")
        lost = lost or (report.failed and any(sign in text for sign in LOST))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _tell(test=report.nodeid, outcome="failed", text=report.longreprtext)
