"""The folder of a run, which one process at a time may write."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_only

from brevitas_ftprop.runs.run_folder import RunFolder

from .failures import TrainingError


def is_taken(folder: RunFolder) -> bool:
    """Whether a process holds a run's folder."""
    try:
        with (folder.path / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def taken(folder: RunFolder, *, resume: bool) -> Iterator[None]:
    """Hold a run's folder; a killed process lets go of it.

    Raises:
        TrainingError: if another process holds it, it has a run in it that is not resumed, or it
            cannot be written.
    """
    if rank_zero_only.rank:
        # The first rank holds it for all.
        yield
        return
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        opened = (folder.path / ".lock").open("w")
    except OSError as error:
        raise TrainingError(f"{folder.path} cannot be a run's folder: {error.strerror}") from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"{folder.path} is in use by another run") from None
        if not resume and (folder.recipe.exists() or folder.result.exists()):
            raise TrainingError(
                f"{folder.path} holds a run already: pass --resume to go on with it, or another "
                "--out"
            )
        yield
