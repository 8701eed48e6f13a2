"""Processes that train one trial each, and that end with the one that started them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from training import Recipe, Result, Run, TrainingError, train
from training.result import versions
from training.sections import refuse_below

from brevitas_ftprop.provenance import device_name

from .plan import Trial

OUTPUT = "output.txt"


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

    @property
    def room(self) -> int:
        """How many trials run at a time."""
        return self.devices * self.jobs

    def surroundings(self) -> dict[str, Any]:
        """Device and versions that trials will run with."""
        return surroundings(self.accelerator)

    def trials(self, on_epoch: Callable[[Trial, int], None]) -> TrialProcesses:
        return TrialProcesses(self, on_epoch)

    def run(self, device: int) -> Run:
        """How a trial on this device is carried out."""
        return Run(
            accelerator=self.accelerator,
            devices=1 if self.accelerator == "cpu" else [device],
            threads=self.threads,
            progress=False,
            resume=True,
        )


class TrialProcesses:
    """Runs trials, each in a process of its own: none inherits another's state or memory.

    Args:
        pool: where.
        on_epoch: called with a trial and the number of epochs that it has ended.
    """

    def __init__(self, pool: Pool, on_epoch: Callable[[Trial, int], None]) -> None:
        self.pool, self.on_epoch = pool, on_epoch
        self.context = _processes_with_imports()
        self.free: SimpleQueue[int] = SimpleQueue()
        for device in range(pool.room):
            self.free.put(device % pool.devices)
        self.running: set[ForkServerProcess] = set()
        self.is_killed = False

    def run(self, trial: Trial) -> Result | str:
        """Train a trial; the text says why it failed."""
        device = self.free.get()
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(
            target=_train, args=(sender, trial.recipe, trial.folder, self.pool.run(device))
        )
        process.start()
        sender.close()
        self.running.add(process)
        if self.is_killed:
            process.kill()
        try:
            while isinstance(message := receiver.recv(), int):
                self.on_epoch(trial, message)
            return message
        except EOFError:
            process.join()
            return f"its process ended with exit code {process.exitcode}, see {OUTPUT} there"
        finally:
            process.join()
            self.running.discard(process)
            self.free.put(device)

    def kill(self) -> None:
        """End all, which lose nothing but what came after their last checkpoint."""
        self.is_killed = True
        for process in list(self.running):
            process.kill()


class TellEpochs(Callback):
    """Sends the number of epochs that have ended."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.sender.send(trainer.current_epoch + 1)


def surroundings(accelerator: str) -> dict[str, Any]:
    """What results are told to have been found with, of this process."""
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    return {"device": device_name(device), "versions": versions()}


def outcome_of(recipe: Recipe, folder: Path, run: Run, sender: Any) -> Result | str:
    """Train in this process, which prints into the folder from now on; epochs go to the sender.

    Returns:
        The result, or why there is none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _print_to(folder / OUTPUT)
        return train(recipe, folder, run, callbacks=[TellEpochs(sender)])
    except (TrainingError, ValueError, OSError) as error:
        return str(error)
    # Nothing may end the process before it is known why.
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error} (see {OUTPUT} there)"


def _train(sender: Connection, recipe: Recipe, folder: Path, run: Run) -> None:
    """What a process does: epochs, and then the result or why there is none, go to the sender."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(outcome_of(recipe, folder, run, sender))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _print_to(path: Path) -> None:
    with path.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)


def _processes_with_imports() -> ForkServerContext:
    """Processes that start in a fresh one which has imported, seconds a trial, what all import.

    Ctrl-C reaches every process of a terminal: theirs is to be ended by the one that waits for
    them, which alone tells of it.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["brevitas_ftprop", "lightning.pytorch", "torchvision"])
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
    return context
