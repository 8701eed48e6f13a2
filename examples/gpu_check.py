"""Everything about this package that only a GPU can show, in one command that ends in time.

    python examples/gpu_check.py --data cifar10 --out gpu_check_out
    python examples/gpu_check.py --device cpu --minutes 2

The whole of a GPU session of ten minutes is the first line with ``--minutes 9``. What tells most in
a second comes first: the card and how fast it copies; the equality tests of kernels, operators and
whole models, on the card; single quantizers in times of a copy; training steps of whole networks,
plain, compiled and as one CUDA graph, which has to equal the plain step to the bit; steps that must
not wait for the card; the trainer's images a second; and for the rest of the time a comparison of
rules on CIFAR-10, with which the same command goes on when it is called again.

A failure stops nothing, and neither does what hangs or takes the process with it: the report says
first what failed. It is written after each finding. ``--out`` then holds ``report.md`` (fit to be
pasted into a README), ``report.json`` (all numbers and whole tracebacks), ``log.txt`` (what was
printed on the way) and ``comparison.zip`` (finished runs); with it, also elsewhere, the comparison
goes on. The exit code is 0 if all that ran has passed, 1 if not. ``--device cpu`` does all of it in
small, and names what needs a GPU.

To a machine without a network, beside a Python with PyTorch, torchvision, Triton, NumPy, pytest and
onnx (which Brevitas' exporters import), take

- this repository (``git clone`` of a bundle, or a copy): nothing of it has to be installed;
- the wheels that it stands on, for all but the last two parts::

      pip download --no-deps --dest wheels brevitas==0.13.4 dependencies==2.0.1 unfoldNd

- for the trainer and the comparison also, unless they are there, lightning, torchmetrics,
  scikit-learn, scipy, matplotlib, rich, pyyaml and tensorboard, and::

      pip download --no-deps --dest wheels jsonargparse docstring_parser typeshed_client

- CIFAR-10 as JPEG files in ``train/<class>/`` and ``test/<class>/``, a folder or a ``.tar.xz`` of
  the two, for ``--data``; without it the trainer takes random images, and nothing is compared.

There::

    pip install --no-deps --no-index wheels/*.whl
    PYTHONPATH=. python examples/gpu_check.py --minutes 9 --data cifar10_jpeg.tar.xz --out found

Where a wheel is missing, the parts that need it are skipped by name.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_checks.plan import PARTS
from gpu_checks.report import PartReport, Report
from gpu_checks.supervision import Supervisor

LOG = "log.txt"


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: in small")
    parser.add_argument("--minutes", type=float, default=8.0, help="to end within")
    parser.add_argument("--out", type=Path, default=Path("gpu_check_out"), help="at most 8 files")
    parser.add_argument("--work", type=Path, help="of runs to go on with; default: OUT.work")
    parser.add_argument("--data", type=Path, help="CIFAR-10: a folder, or a .tar.xz of one")
    parser.add_argument("--parts", nargs="+", choices=[each.name for each in PARTS])
    return parser


def check(options: dict[str, Any], start: float) -> Report:
    """Run the parts one after another; the report is written after each thing that they tell."""
    out = Path(options["out"])
    out.mkdir(parents=True, exist_ok=True)
    Path(options["work"]).mkdir(parents=True, exist_ok=True)
    chosen = [part for part in PARTS if part.name in options["parts"]]
    report = Report(options, [PartReport(part.name, part.title) for part in chosen])

    def write() -> None:
        report.seconds = time.time() - start
        report.around = supervisor.around
        report.write(out)

    with (out / LOG).open("wb") as log:
        supervisor = Supervisor(options, log, start, options["minutes"], write)
        try:
            for plan, part in zip(chosen, report.parts, strict=True):
                supervisor.run(plan, part)
                print(f"{plan.name}: {part.state}, {part.seconds:.0f} s", flush=True)
        finally:
            supervisor.end()
            write()
    return report


def main(argv: Sequence[str] | None = None) -> int:
    start = time.time()
    parsed = arguments_parser().parse_args(argv)
    if not parsed.minutes > 0:
        print("gpu_check.py: error: --minutes must be positive", file=sys.stderr)
        return 2
    out = parsed.out.resolve()
    options = {
        "device": parsed.device,
        "minutes": parsed.minutes,
        "out": str(out),
        "work": str((parsed.work or out.with_name(f"{out.name}.work")).resolve()),
        "data": str(parsed.data.resolve()) if parsed.data else None,
        "parts": parsed.parts or [part.name for part in PARTS],
    }
    # What it has started must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = check(options, start)
    print(f"{'passed' if report.passed else 'failed'}; see {out / 'report.md'}")
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
