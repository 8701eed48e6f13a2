"""The process that outlives all others: it starts workers, listens, and ends them in time.

It imports nothing but the standard library, so that no failure of the rest is one of the report.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

from .plan import MARGIN, PartPlan
from .report import FAILED, PASSED, SKIPPED, PartReport

COMMAND = (sys.executable, "-m", "gpu_checks.worker")
EXAMPLES = Path(__file__).resolve().parents[1]
# Of all the time, for a worker to import what it needs.
STARTING = 0.4
# Seconds for a worker that is stuck to tell where.
DUMPING = 0.5


class OverdueError(Exception):
    """A worker that has not told in time what was waited for."""


class EndedError(Exception):
    """A worker that is no more, though it was not done."""


def paths() -> str:
    """What a worker finds modules by: the package, the examples, and what benchmarks share."""
    own = [EXAMPLES.parent, EXAMPLES, EXAMPLES / "benchmarks"]
    return os.pathsep.join([*map(str, own), *filter(None, [os.environ.get("PYTHONPATH")])])


class Worker:
    """A process that runs parts, in a group with all that it starts.

    Args:
        options: of the check, as JSON takes them.
        log: takes what it and its children print.
    """

    def __init__(self, options: Mapping[str, Any], log: IO[bytes]) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, json.dumps(dict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": paths()},
            cwd=EXAMPLES.parent,
            start_new_session=True,
        )
        self.told: SimpleQueue[str | None] = SimpleQueue()
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.told.put(line)
        self.told.put(None)

    def ask(self, **request: Any) -> None:
        """Have it run a part."""
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)

    def events(self, last: str, deadline: float) -> Iterator[dict[str, Any]]:
        """What it tells, up to an event of the kind ``last``.

        Raises:
            OverdueError: at the deadline.
            EndedError: when it is gone.
        """
        while True:
            try:
                line = self.told.get(timeout=max(0.0, deadline - time.time()))
            except Empty:
                raise OverdueError from None
            if line is None:
                status = self.process.wait()
                how = f"signal {signal.Signals(-status).name}" if status < 0 else f"code {status}"
                raise EndedError(f"the process ended with {how}; the log has what it printed")
            event = json.loads(line)
            if event["event"] == last:
                yield event
                return
            yield event

    def dump(self) -> None:
        """Have it print to the log where it is."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(DUMPING)

    def end(self) -> None:
        """End it and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()


class Supervisor:
    """Runs parts in a worker, and in a new one behind a part that ended or blocked the last.

    Args:
        options: of the check, as JSON takes them.
        log: takes what workers print.
        start: of the check, in seconds of ``time.time``.
        minutes: that it has.
        changed: called after each event.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        log: IO[bytes],
        start: float,
        minutes: float,
        changed: Callable[[], None],
    ) -> None:
        self.options, self.log = options, log
        self.start, self.minutes, self.changed = start, minutes, changed
        self.worker: Worker | None = None
        self.around: dict[str, Any] = {}

    def run(self, plan: PartPlan, report: PartReport) -> None:
        """Run a part to its end, to a failure of which it dies, or to its deadline."""
        begun = time.time()
        if begun >= self.start + 60 * self.minutes - MARGIN:
            return
        started: list[str] = []
        while True:
            before = len(started)
            try:
                self._start_worker()
                # What imports take is no part's.
                soft, hard = plan.deadlines(time.time(), self.start, self.minutes)
                self.worker.ask(part=plan.name, soft=soft, hard=hard, done=started)
                self._listen(plan, report, started, hard)
            except OverdueError:
                seconds = time.time() - begun
                where = started[-1] if started else "its start"
                report.fail(where, f"stopped after {seconds:.0f} s; the log tells where it was")
                self.worker.dump()
                self.end()
            except EndedError as error:
                report.fail(started[-1] if started else "its start", str(error))
                self.end()
                # The cases behind the one that it died of still tell something.
                if len(started) > before and time.time() < soft:
                    continue
            break
        report.seconds = time.time() - begun
        if report.state not in (FAILED, SKIPPED):
            report.state = PASSED
        self.changed()

    def _start_worker(self) -> None:
        if self.worker is None:
            self.worker = Worker(self.options, self.log)
            end = self.start + 60 * self.minutes - MARGIN
            limit = min(end, time.time() + STARTING * 60 * self.minutes)
            for event in self.worker.events("ready", limit):
                self.around |= event.get("around", {})

    def _listen(
        self, plan: PartPlan, report: PartReport, started: list[str], deadline: float
    ) -> None:
        for event in self.worker.events("end", deadline):
            if event["event"] == "case":
                started.append(event["case"])
            elif event["event"] == "skipped" and event["case"] == plan.name:
                report.state = SKIPPED
            report.take(event)
            self.changed()

    def end(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.end()
            self.worker = None
