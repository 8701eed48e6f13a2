"""Trials on a cluster: each goes to a machine with room for it, and on elsewhere if that dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from cluster import Cluster
from training import Recipe, Result, Run
from training.folder import is_taken

from brevitas_ftprop.runs.run_folder import RunFolder

from .plan import Trial
from .processes import Pool, outcome_of, surroundings

# How long a process whose machine is given up may hold its folder.
LEFT_BEHIND = 60.0


@dataclass(frozen=True)
class ClusterPool:
    """Where trials run: the machines of a cluster.

    Args:
        cluster: which.
        pool: what each trial gets there; ``jobs`` of them share a GPU.
    """

    cluster: Cluster
    pool: Pool

    @property
    def room(self) -> None:
        """Ray knows how many trials there is room for."""
        return None

    def surroundings(self) -> dict[str, Any]:
        """Device and versions of a machine that trials are given to."""
        return self._submit(surroundings, self.pool.accelerator).result()

    def trials(self, on_epoch: Callable[[Trial, int], None]) -> ClusterTrials:
        return ClusterTrials(self, on_epoch)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        gpus = 1 / self.pool.jobs if self.pool.accelerator == "gpu" else 0
        return self.cluster.submit(function, *arguments, cpus=self.pool.threads, gpus=gpus)


class ClusterTrials:
    """Runs trials as tasks of a cluster.

    Args:
        pool: where.
        on_epoch: called with a trial and the number of epochs that it has ended.
    """

    def __init__(self, pool: ClusterPool, on_epoch: Callable[[Trial, int], None]) -> None:
        self.pool, self.on_epoch = pool, on_epoch
        self.surroundings = pool.surroundings()
        self.queue = pool.cluster.queue()
        self.trials: dict[Path, Trial] = {}
        threading.Thread(target=self._tell, daemon=True).start()

    def run(self, trial: Trial) -> Result | str:
        """Train a trial; the text says why it failed."""
        self.trials[trial.folder] = trial
        run = self.pool.pool.run(0)
        future = self.pool._submit(
            _trained, trial.recipe, trial.folder, run, self.surroundings, self.queue
        )
        try:
            return future.result()
        except self.pool.cluster.ray.exceptions.RayError as error:
            return f"its process or machine ended again and again: {error}".partition("\n")[0]

    def kill(self) -> None:
        """End all, which lose nothing but what came after their last checkpoint."""
        self.pool.cluster.close()

    def _tell(self) -> None:
        while True:
            try:
                folder, epoch = self.queue.get(timeout=1)
            except Empty:
                continue
            # The cluster is left.
            except Exception:
                return
            self.on_epoch(self.trials[folder], epoch)


@dataclass(frozen=True)
class _Sender:
    """Puts what a trial tells into the queue."""

    folder: Path
    queue: Any

    def send(self, epoch: int) -> None:
        self.queue.put((self.folder, epoch))


def _trained(
    recipe: Recipe, folder: Path, run: Run, expected: dict[str, Any], queue: Any
) -> Result | str:
    """What a task does, on whichever machine."""
    found = surroundings(run.accelerator)
    if found != expected:
        return f"a machine has {found}, others have {expected}: compare on machines of one kind"
    end = time.monotonic() + LEFT_BEHIND
    while is_taken(RunFolder(folder)) and time.monotonic() < end:
        time.sleep(1)
    return outcome_of(recipe, folder, run, _Sender(folder, queue))
