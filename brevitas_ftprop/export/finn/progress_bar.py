"""The progress of what takes long, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress_bar(*, show: bool) -> Iterator[Progress]:
    """A bar on stderr, which whoever uses it refreshes: FINN's steps silence the terminal."""
    bar = Progress(console=Console(stderr=True), auto_refresh=False, disable=not show)
    # A hidden one would end a line that it never began.
    with bar if show else nullcontext():
        yield bar
