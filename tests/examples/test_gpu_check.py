"""The check of a GPU: what it leaves behind, whatever its parts do, and when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import gpu_check
import pytest
from gpu_checks import comparison, data, equality, plan, sharding, supervision
from gpu_checks.plan import PARTS, PartPlan
from gpu_checks.report import PartReport, Report

pytestmark = pytest.mark.heavy

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
DEATHS = ("passes", "fails", "breaks", "dies", "late", "hangs")


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Runs parts of ``gpu_check_parts`` and gives the exit code and the two reports."""
    monkeypatch.setattr(supervision, "COMMAND", (sys.executable, str(HERE / "gpu_check_parts.py")))
    monkeypatch.setattr(plan, "GRACE", 0.01)

    def run(*parts: PartPlan | str, minutes: float = 2.0):
        plans = [p if isinstance(p, PartPlan) else PartPlan(p, p, 0.02) for p in parts]
        monkeypatch.setattr(gpu_check, "PARTS", plans)
        out = tmp_path / "out"
        code = gpu_check.main(["--device", "cpu", "--minutes", str(minutes), "--out", str(out)])
        assert len(list(out.iterdir())) <= 8
        report = json.loads((out / "report.json").read_text())
        return code, {part["name"]: part for part in report["parts"]}, out

    return run


def test_no_failure_stops_what_comes_after_it(checked):
    code, parts, out = checked(*DEATHS, "passes")
    assert code == 1
    states = {name: part["state"] for name, part in parts.items()}
    assert states == dict.fromkeys(DEATHS, "failed") | {"passes": "passed", "late": "passed"}
    (division,) = parts["fails"]["failures"]
    assert division["case"] == "divides"
    assert division["error"].startswith("ZeroDivisionError")
    assert "1 / 0" in division["traceback"]
    assert parts["fails"]["tables"] == {"Numbers": [{"what": "after", "value": 2}]}
    assert "outside of any case" in parts["breaks"]["failures"][0]["error"]
    # What a part died of is left out, and what was behind it is not.
    assert [f["case"] for f in parts["dies"]["failures"]] == ["segfault"]
    assert "SIGSEGV" in parts["dies"]["failures"][0]["error"]
    assert [row["what"] for row in parts["dies"]["tables"]["Numbers"]] == ["before", "behind"]
    assert parts["late"]["left_out"] == ["second"]
    assert parts["hangs"]["failures"][0]["error"].startswith("stopped after")
    assert "in wait_for_ever" in (out / "log.txt").read_text()


def test_the_report_says_first_what_failed(checked):
    _, _, out = checked("passes", "fails")
    page = (out / "report.md").read_text()
    assert page.startswith("# GPU check: nothing\n")
    order = ["**Failed**", "- fails, divides: ZeroDivisionError", "## passes", "| one | 1.5 |"]
    assert sorted(order, key=page.index) == order
    assert page.index("## fails") < page.index("## Tracebacks")


def test_all_that_ran_has_to_pass(checked):
    assert checked("passes", "late")[0] == 0


def test_it_ends_in_time_and_says_what_was_not_reached(checked):
    begun = time.time()
    endless = PartPlan("hangs", "hangs", 1.0)
    code, parts, _ = checked(endless, "passes", minutes=0.1)
    assert time.time() - begun < 12
    assert (code, parts["hangs"]["state"], parts["passes"]["state"]) == (1, "failed", "not reached")


def test_what_it_has_started_ends_with_it(checked):
    _, _, out = checked("hangs")
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(out) not in listed.stdout


def test_a_missing_trainer_is_skipped_by_name(checked):
    trainer, compared = (part for part in PARTS if part.name in ("trainer", "comparison"))
    code, parts, _ = checked("passes", trainer, compared)
    assert code == 0
    for name in ("trainer", "comparison"):
        assert parts[name]["state"] == "skipped"
        assert "lightning" in parts[name]["skipped"][name]


def test_shares_leave_time_for_the_comparison():
    shares = [part.share for part in PARTS if part.share is not None]
    assert sum(shares) < 0.9
    soft, hard = PARTS[-1].deadlines(400.0, 0.0, 8)
    assert 400 < soft < hard < 480


def test_the_supervisor_needs_nothing_but_the_standard_library():
    code = (
        "import sys, gpu_check; "
        "print({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(REPO / "examples")},
    )
    assert eval(found.stdout) <= {"__main__", "gpu_check", "gpu_checks"}


TESTS = """
import pytest, time
def test_passes(): pass
def test_fails(): assert 1 == 2
def test_skips(): pytest.skip("for want of something")
def test_passes_too(): pass
"""


@pytest.mark.parametrize("seconds", [100, -1])
def test_processes_share_tests_out_up_to_a_deadline(tmp_path, seconds):
    (tmp_path / "test_some.py").write_text(TESTS)
    results = []
    for shard in ("0/2", "1/2"):
        record = tmp_path / shard[0]
        variables = {
            sharding.SHARD: shard,
            sharding.RECORD: str(record),
            sharding.DEADLINE: str(time.time() + seconds),
            "PYTHONPATH": supervision.paths(),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        subprocess.run(
            [sys.executable, "-m", "pytest", *equality.OPTIONS, "-p", "gpu_checks.sharding"],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
        )
        results += equality.read(record)
    if seconds < 0:
        assert [result["text"] for result in results] == ["2 tests", "2 tests"]
        return
    found = {result["test"].partition("::")[2]: result for result in results}
    assert {name: result["outcome"] for name, result in found.items()} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_skips": "skipped",
        "test_passes_too": "passed",
    }
    assert "assert 1 == 2" in found["test_fails"]["text"]
    assert "for want of something" in found["test_skips"]["text"]


def test_finished_runs_travel_in_one_file(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    result = one / "runs" / "sign" / "result.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"recipe": {"epochs": 7}}, indent=1))
    (one / "runs" / "unfinished").mkdir()
    assert comparison.pack(one, tmp_path / "kept.zip") == [{"recipe": {"epochs": 7}}]
    comparison.unpack(tmp_path / "kept.zip", other)
    assert (other / "runs" / "sign" / "result.json").read_text() == result.read_text()
    # With the epochs of the runs that are there, whatever the time.
    assert comparison.epochs_of(None, other, 4) == 7
    with zipfile.ZipFile(tmp_path / "kept.zip") as archive:
        assert len(archive.namelist()) == 1


def test_a_trainer_that_was_not_measured_leaves_one_epoch(tmp_path):
    assert comparison.trainer_speed(tmp_path / "report.json") == 0
    part = PartReport("trainer", "Trainer", tables={"ConvNet8": [{"images/s": 5e3}]})
    Report({"device": "cuda", "minutes": 8}, [part]).write(tmp_path)
    assert comparison.trainer_speed(tmp_path / "report.json") == 5e3


def test_an_archive_is_unpacked_once(tmp_path):
    image = tmp_path / "train" / "cat" / "0001.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"jpeg")
    archive = tmp_path / "images.tar.xz"
    with tarfile.open(archive, "w:xz") as members:
        members.add(tmp_path / "train", "train")
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "gpu_checks.data", str(archive), str(tmp_path)],
            env=os.environ | {"PYTHONPATH": supervision.paths()},
        )
        for _ in range(3)
    ]
    assert [process.wait() for process in begun] == [0, 0, 0]
    root = data.unpacked(archive, tmp_path)
    assert (root / "train" / "cat" / "0001.jpg").read_bytes() == b"jpeg"
    assert sorted(path.name for path in tmp_path.glob("data*")) == ["data", "data.lock"]


def test_many_failures_do_not_bury_the_report(tmp_path):
    part = PartReport("equality", "Tests", state="failed")
    for number in range(100):
        part.fail(f"test {number}", "AssertionError", "assert False")
    Report({"device": "cuda", "minutes": 8}, [part]).write(tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert page.count("equality, test ") == 60
    assert "and 70 more, which report.json has" in page
    assert "test 99" in (tmp_path / "report.json").read_text()


@pytest.mark.slow
def test_compiled_steps_take_turns_in_processes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", supervision.paths())
    for folder in (REPO, REPO / "examples" / "benchmarks"):
        monkeypatch.syspath_prepend(str(folder))
    from gpu_checks.check import Check
    from gpu_checks.steps import Variant, measured_together

    told = []
    options = {"device": "cpu", "data": None, "out": str(tmp_path), "work": str(tmp_path)}
    late = time.time() + 300
    check = Check(options, late, late, set(), lambda **event: told.append(event))
    good = Variant("convnet8", "sign", "ours", "compiled")
    bad = Variant("no_such_model", "sign", "ours", "compiled")
    found = dict(measured_together([good, bad], check))
    assert found[good].keys() == {"seconds", "peak"}
    assert found[good]["seconds"] > 0
    assert found[bad] is None
    (failure,) = [event for event in told if event["event"] == "failure"]
    assert (failure["case"], "no_such_model" in failure["error"]) == (str(bad), True)


@pytest.mark.slow
def test_all_of_it_in_small_ends_within_its_minutes(tmp_path):
    begun = time.time()
    script = str(REPO / "examples" / "gpu_check.py")
    options = ("--device", "cpu", "--minutes", "2", "--out", str(tmp_path / "out"))
    run = subprocess.run([sys.executable, script, *options], cwd=tmp_path)
    assert time.time() - begun < 120
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert run.returncode == 0, report
    assert {part["name"]: part["state"] for part in report["parts"]} == {
        part.name: "passed" for part in PARTS
    }
    assert len(list((tmp_path / "out").iterdir())) <= 8
