"""Ctrl-C ends a script in one line also in the seconds in which it imports what it needs.

To be imported before the rest: a KeyboardInterrupt within an import becomes whatever the imported
package makes of it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
_script = Path(getattr(sys.modules["__main__"], "__file__", None) or "")


def over() -> None:
    """The imports are over: Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    print(f"{_script.name}: interrupted", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


# Neither in the processes that a script starts, nor where a test imports it.
if _script.resolve().parent == Path(__file__).resolve().parent:
    signal.signal(signal.SIGINT, _end)
