"""A worker of ``gpu_check.py`` whose parts fail in every way there is."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import ModuleType
from typing import Any

from gpu_checks import worker


def passes(check: Any) -> None:
    check.case("one", lambda: check.row("Numbers", what="one", value=1.5))


def fails(check: Any) -> None:
    check.case("divides", lambda: 1 / 0)
    check.case("goes on", lambda: check.row("Numbers", what="after", value=2))


def breaks(check: Any) -> None:
    raise KeyError("outside of any case")


def dies(check: Any) -> None:
    check.case("before", lambda: check.row("Numbers", what="before", value=1))
    check.case("segfault", lambda: os.kill(os.getpid(), signal.SIGSEGV))
    check.case("behind", lambda: check.row("Numbers", what="behind", value=3))


def wait_for_ever() -> None:
    time.sleep(1000)


def hangs(check: Any) -> None:
    check.case("waits", wait_for_ever)


def late(check: Any) -> None:
    check.case("first", lambda: time.sleep(max(0.0, check.soft - time.time()) + 0.01))
    check.case("second", lambda: check.row("Numbers", what="second", value=1))


for function in (passes, fails, breaks, dies, hangs, late):
    module = ModuleType(f"gpu_checks.{function.__name__}")
    module.run = function
    sys.modules[module.__name__] = module

if __name__ == "__main__":
    # What a bare machine lacks.
    sys.modules["lightning"] = None
    worker.prepare = lambda options: ({"device": "nothing"}, None)
    worker.main()
