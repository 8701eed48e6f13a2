"""The tests of kernels, operators and whole models, by many processes that share them out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .check import Check, needs
from .sharding import DEADLINE, RECORD, SHARD

REPO = Path(__file__).resolve().parents[2]
# What runs on the card where there is one.
ON_THE_DEVICE = (
    "tests/kernels/test_triton.py",
    "tests/kernels/test_triton_operands.py",
    "tests/kernels/test_triton_device.py",
    "tests/test_whole_models.py",
    "tests/ops",
)
IN_SMALL = ("tests/test_whole_models.py", "tests/kernels/test_triton_device.py")
# Of the small form: what takes a second or two, by pytest's -k.
QUICK = "convnet4 or named or waits"
# Seconds to read and tell what processes found that had to be ended.
ENDING = 5.0
# Without configuration or plugins, of which a bare machine has other ones or none.
OPTIONS = ("-c", os.devnull, "--rootdir=.", "--import-mode=importlib", "-p", "no:cacheprovider")


def run(check: Check) -> None:
    check.case("pytest", tests, check)


def tests(check: Check) -> None:
    """Run all; failures are told one by one."""
    needs("pytest")
    files = IN_SMALL if check.small else ON_THE_DEVICE
    shards = 1 if check.small else max(2, min(12, (os.cpu_count() or 4) - 2))
    chosen = ["-p", "gpu_checks.sharding", "-m", "not slow"]
    chosen += [*(["-k", QUICK] if check.small else []), *files]
    with tempfile.TemporaryDirectory() as folder:
        records = [Path(folder) / str(shard) for shard in range(shards)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", *OPTIONS, *chosen],
                cwd=REPO,
                stdout=sys.stderr,
                env=os.environ
                | {
                    SHARD: f"{shard}/{shards}",
                    RECORD: str(record),
                    DEADLINE: str(check.soft),
                    "OMP_NUM_THREADS": "1",
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                },
            )
            for shard, record in enumerate(records)
        ]
        codes = [ended(process, check.hard - ENDING) for process in processes]
        tell(check, [read(record) for record in records], codes)


def ended(process: subprocess.Popen, deadline: float) -> int:
    """Its exit code; negative if it had to be ended at the deadline."""
    try:
        return process.wait(max(0.0, deadline - time.time()))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def read(record: Path) -> list[dict[str, str]]:
    if not record.is_file():
        return []
    return [json.loads(line) for line in record.read_text().splitlines()]


def tell(check: Check, records: list[list[dict[str, str]]], codes: list[int]) -> None:
    """A row for each file, each failure, why tests were skipped, and shards that broke."""
    counts: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    for result in (result for record in records for result in record):
        if result["outcome"] == "left out":
            check.tell(event="left_out", case=result["text"])
            continue
        file = result["test"].partition("::")[0]
        counts.setdefault(file, Counter())[result["outcome"]] += 1
        if result["outcome"] == "failed":
            check.tell(
                event="failure",
                case=result["test"],
                error=result["text"].strip().splitlines()[-1] if result["text"] else "failed",
                traceback=result["text"],
            )
        elif result["outcome"] == "skipped":
            reasons[f"{file}: {result['text']}"] += 1
    for file, of_file in sorted(counts.items()):
        check.row("Tests", file=file, **{k: of_file[k] for k in ("passed", "failed", "skipped")})
    for reason, count in reasons.items():
        check.note(f"Skipped, {count} of {reason}")
    # 0: all passed, 1: some failed, which is told above, 5: a share without tests.
    broken = sorted({code for code in codes if code not in (0, 1, 5)})
    if broken:
        raise RuntimeError(f"pytest ended with {broken} (-9: at the time limit): see the log")
    if not any(record for record in records):
        raise RuntimeError("there was no test to run: see the log")
