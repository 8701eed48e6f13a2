"""The folder of a run, which one process at a time may write."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from .failures import TrainingError


class RunFolder:
    """Names of what a run writes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.recipe = self.path / "recipe.yaml"
        self.result = self.path / "result.json"
        self.weights = self.path / "weights.pt"

    @property
    def is_taken(self) -> bool:
        """Whether a process holds it."""
        try:
            with (self.path / ".lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def taken(self, *, resume: bool) -> Iterator[None]:
        """Hold the folder; a killed process lets go of it.

        Raises:
            TrainingError: if another process holds it, it has a run in it that is not resumed, or
                it cannot be written.
        """
        if rank_zero_only.rank:
            # The first rank holds it for all.
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            opened = (self.path / ".lock").open("w")
        except OSError as error:
            raise TrainingError(
                f"{self.path} cannot be a run's folder: {error.strerror}"
            ) from error
        with opened as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrainingError(f"{self.path} is in use by another run") from None
            if not resume and (self.recipe.exists() or self.result.exists()):
                raise TrainingError(
                    f"{self.path} holds a run already: pass --resume to go on with it, or another "
                    "--out"
                )
            yield
