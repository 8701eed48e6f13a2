"""A benchmark, from its arguments to what it leaves behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from matplotlib.figure import Figure

from .command import BenchmarkError, prepare
from .record import Record, environment

Rows = list[dict[str, Any]]


def run_benchmark(
    parser: ArgumentParser,
    argv: Sequence[str] | None,
    measured: Callable[[Namespace, torch.device], Rows],
    table: Callable[[Rows], str],
    caption: Callable[[Namespace], str],
    figure: Callable[[Rows], Figure],
) -> int:
    """Measure and publish; what cannot be done is one sentence and exit code 2.

    Args:
        parser: as ``build_parser`` makes it.
        argv: its arguments; None for those of the process.
        measured: one row for each line of the table.
        table: Markdown.
        caption: what was measured, for the sentence below the table.
        figure: of the rows.
    """
    options = parser.parse_args(argv)
    try:
        device = prepare(options)
        around = environment(device)
        rows = measured(options, device)
        record = Record(
            benchmark=parser.prog.removesuffix(".py"),
            parameters={name: value for name, value in options.as_dict().items() if name != "out"},
            environment=around,
            rows=rows,
        )
        record.publish(options.out, table(rows), caption(options), figure(rows))
    except (BenchmarkError, OSError, ValueError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
