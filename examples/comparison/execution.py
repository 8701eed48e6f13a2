"""Run the trials of a comparison, several at a time, and go on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from queue import SimpleQueue

from training import Result, Run, differences, train
from training.sections import refuse_below

from .plan import Trial


class TrialsError(RuntimeError):
    """Some trials failed; the others are kept."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Where trials run.

    Args:
        accelerator: ``cpu`` or ``gpu``.
        devices: how many GPUs take trials; 1 on a CPU.
        jobs: trials at a time on each device: small networks leave a large GPU idle.
        threads: of torch in each trial on a CPU.
    """

    accelerator: str = "cpu"
    devices: int = 1
    jobs: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        refuse_below(1, devices=self.devices, jobs=self.jobs)

    def run(self, device: int) -> Run:
        """How a trial on this device is carried out."""
        return Run(
            accelerator=self.accelerator,
            devices=1 if self.accelerator == "cpu" else [device],
            threads=self.threads,
            progress=False,
            resume=True,
        )


def execute(
    trials: Sequence[Trial], pool: Pool, on_result: Callable[[Trial, Result], None]
) -> list[Result]:
    """Train what has no result yet; an interrupted trial goes on from its last checkpoint.

    Args:
        trials: in the order in which they start.
        pool: where.
        on_result: called after each trial, also after those that were complete before.

    Returns:
        The results, in the order of the trials.

    Raises:
        TrialsError: behind the last trial, naming those that failed and why.
    """
    processes = _processes_with_imports()
    free: SimpleQueue[int] = SimpleQueue()
    for device in range(pool.devices * pool.jobs):
        free.put(device % pool.devices)

    def run(trial: Trial) -> Result:
        device = free.get()
        try:
            # A process of its own, so that no trial inherits another's state or memory.
            with ProcessPoolExecutor(1, processes) as process:
                return process.submit(train, trial.recipe, trial.folder, pool.run(device)).result()
        finally:
            free.put(device)

    results: dict[Path, Result] = {}
    failures = []
    with ThreadPoolExecutor(pool.devices * pool.jobs) as threads:
        running = {}
        for trial in trials:
            finished = _finished(trial)
            if finished is None:
                running[threads.submit(run, trial)] = trial
            else:
                results[trial.folder] = finished
                on_result(trial, finished)
        try:
            for future in as_completed(running):
                trial = running[future]
                if future.exception() is None:
                    results[trial.folder] = future.result()
                    on_result(trial, results[trial.folder])
                else:
                    failures.append(f"{trial.folder}: {future.exception()}")
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    if failures:
        raise TrialsError("\n".join(failures))
    return [results[trial.folder] for trial in trials]


def _processes_with_imports() -> ForkServerContext:
    """Processes that start in a fresh one which has imported, seconds a trial, what all import."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["brevitas_ftprop", "lightning.pytorch", "torchvision"])
    return context


def _finished(trial: Trial) -> Result | None:
    file = trial.folder / "result.json"
    if not file.is_file():
        return None
    result = Result.read(file)
    changed = differences(result.recipe, trial.recipe.to_dict())
    if changed:
        raise ValueError(
            f"{trial.folder} holds a run with another {', '.join(changed)}: give another --out, or "
            "remove that folder"
        )
    return result
