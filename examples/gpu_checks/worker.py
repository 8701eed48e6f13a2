"""The process that runs parts, one at a time, and tells what it finds line by line."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from typing import Any

from .check import Check, LostDeviceError, Unavailable


def main() -> None:
    """Run the parts that standard input asks for, a line each."""
    # What libraries print goes to the log; what is told has a channel of its own.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    options = json.loads(sys.argv[1])

    def tell(**event: Any) -> None:
        print(json.dumps(event), file=channel, flush=True)

    around, reason = prepare(options)
    if options["data"] and os.path.isfile(options["data"]):
        # An archive of small files takes half a minute, and one of many cores.
        arguments = (options["data"], options["work"])
        subprocess.Popen([sys.executable, "-m", "gpu_checks.data", *arguments], stdout=2)
    tell(event="ready", around=around)
    for line in sys.stdin:
        request = json.loads(line)
        check = Check(options, request["soft"], request["hard"], set(request["done"]), tell)
        part = request["part"]
        print(f"== {part}", file=sys.stderr, flush=True)
        if reason is not None and part != "card":
            tell(event="skipped", case=part, why=reason)
        else:
            run(part, check)
        tell(event="end")


def prepare(options: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Import what all parts need; the device's name, and why there is no such device."""
    import torch

    import brevitas_ftprop  # noqa: F401

    if options["device"] == "cpu":
        torch.set_num_threads(1)
        return {"device": "CPU, in small"}, None
    if not torch.cuda.is_available():
        return {"device": "none"}, "needs a GPU, and PyTorch finds none here"
    return {"device": torch.cuda.get_device_name()}, None


def run(part: str, check: Check) -> None:
    """Run a part; what it cannot do is told, whatever it is."""
    try:
        importlib.import_module(f"gpu_checks.{part}").run(check)
    except Unavailable as error:
        check.tell(event="skipped", case=part, why=str(error))
    except LostDeviceError:
        # Nothing more can be computed by this process.
        os._exit(3)
    except Exception as error:
        check.failure(part, error, traceback.format_exc())
    finally:
        give_back()


def give_back() -> None:
    """Leave the next part the memory that this one had."""
    # What was never imported has nothing to give.
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
