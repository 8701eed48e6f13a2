"""Silence exporters that print from Python, from loggers and from C++."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed, warned or logged in the block, by native code too.

    The process' own file descriptors 1 and 2 are redirected meanwhile, so other threads are
    silenced as well.

    >>> with silence():
    ...     print("not seen")
    """
    with ExitStack() as stack:
        sink = stack.enter_context(tempfile.TemporaryFile(mode="w+", encoding="utf-8"))
        for descriptor in (1, 2):
            stack.enter_context(_redirected(descriptor, sink.fileno()))
        stack.enter_context(redirect_stdout(sink))
        stack.enter_context(redirect_stderr(sink))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        disabled = logging.root.manager.disable
        stack.callback(logging.disable, disabled)
        logging.disable(logging.CRITICAL)
        yield


@contextmanager
def _redirected(descriptor: int, to: int) -> Iterator[None]:
    # What Python has buffered belongs to the time before (or within) the block.
    _flush()
    try:
        saved = os.dup(descriptor)
    except OSError:
        yield
        return
    try:
        os.dup2(to, descriptor)
        yield
    finally:
        _flush()
        os.dup2(saved, descriptor)
        os.close(saved)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
