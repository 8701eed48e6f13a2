"""The progress of what takes long, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress_bar(*, show: bool) -> Iterator[Progress]:
    """A bar on stderr, which whoever uses it refreshes: FINN's steps silence the terminal."""
    with Progress(console=Console(stderr=True), auto_refresh=False, disable=not show) as bar:
        yield bar
