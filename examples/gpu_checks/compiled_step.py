"""A process that compiles a step, waits for its turn, and times it."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback

from .check import Check
from .steps import Variant, prepared, timed


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.argv[1])
    options = {name: request[name] for name in ("device", "out", "work")}
    check = Check(options | {"data": None}, time.time(), time.time(), set(), lambda **event: None)
    variant = Variant(*request["variant"])
    try:
        step = prepared(variant, check)
        print("ready", file=channel, flush=True)
        sys.stdin.readline()
        found = timed(step, variant, check)
    # Whatever it is, the check that started this process reports it.
    except Exception:
        found = {"error": traceback.format_exc()}
    print(json.dumps(found), file=channel, flush=True)


if __name__ == "__main__":
    main()
