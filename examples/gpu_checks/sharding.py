"""A pytest plugin: one process's share of the tests, up to a deadline, each result a line."""

from __future__ import annotations

import json
import os
import time

import pytest

__all__ = ["DEADLINE", "RECORD", "SHARD"]

SHARD, RECORD, DEADLINE = "GPU_CHECK_SHARD", "GPU_CHECK_RECORD", "GPU_CHECK_DEADLINE"


def _tell(**result: object) -> None:
    with open(os.environ[RECORD], "a") as file:
        file.write(json.dumps(result) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shard, shards = map(int, os.environ[SHARD].split("/"))
    # A test that takes long has neighbours that do: they go to different processes.
    items[:] = items[shard::shards]


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if time.time() >= float(os.environ[DEADLINE]):
        left = len(item.session.items) - item.session.items.index(item)
        _tell(outcome="left out", count=left)
        pytest.exit("no time is left", returncode=0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        _tell(test=report.nodeid, outcome=outcome, text=text if outcome != "passed" else "")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _tell(test=report.nodeid, outcome="failed", text=report.longreprtext)
