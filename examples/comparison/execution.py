"""Run the trials of a comparison, several at a time, and go on where it was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from training import Result, differences

from .on_cluster import ClusterPool
from .plan import Trial
from .processes import Pool
from .progress import TrialsProgress


class TrialsError(RuntimeError):
    """Some trials failed; the others are kept."""


def execute(
    trials: Sequence[Trial], pool: Pool | ClusterPool, progress: TrialsProgress
) -> list[Result]:
    """Train what has no result yet; an interrupted trial goes on from its last checkpoint.

    What a trial's process prints is in its folder, in ``output.txt``.

    Args:
        trials: in the order in which they start.
        pool: where.
        progress: is told of each epoch and each result.

    Returns:
        The results, in the order of the trials.

    Raises:
        TrialsError: behind the last trial, naming those that failed and why.
    """
    results: dict[Path, Result] = {}
    for trial in trials:
        finished = _finished(trial)
        if finished is not None:
            results[trial.folder] = finished
            progress.result(trial, finished, trained=False)
    waiting = [trial for trial in trials if trial.folder not in results]
    failures = []
    running_trials = pool.trials(progress.epoch)
    progress.start(waiting)
    try:
        with ThreadPoolExecutor(pool.room or max(len(waiting), 1)) as threads:
            running = {threads.submit(running_trials.run, trial): trial for trial in waiting}
            try:
                for future in as_completed(running):
                    trial, outcome = running[future], future.result()
                    if isinstance(outcome, Result):
                        results[trial.folder] = outcome
                        progress.result(trial, outcome, trained=True)
                    else:
                        failures.append(f"{trial.folder}: {outcome}")
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                running_trials.kill()
                raise
    finally:
        progress.stop()
    if failures:
        raise TrialsError("\n".join(failures))
    return [results[trial.folder] for trial in trials]


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
