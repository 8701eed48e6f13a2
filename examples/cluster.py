"""Work on the machines of a Ray cluster, started anew on another one where a machine dies."""

from __future__ import annotations

import os
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

LOCAL = "local"
# How often work whose process or machine ended is started once more.
RETRIES = 3


class Cluster:
    """A Ray cluster whose machines see this folder, and the same packages, under the same paths.

    Args:
        address: of the cluster's head, such as ``"10.0.0.1:6379"``; ``"local"`` starts a cluster of
            this machine alone, which ends with the context.

    Raises:
        ValueError: if Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise ValueError(
                "--cluster needs Ray: pip install 'brevitas-ftprop[cluster]'"
            ) from error
        _reach(address)
        self.ray, here = ray, os.getcwd()
        # What this process finds beside its installed packages, others have to find too.
        paths = [str(Path(each or here).resolve()) for each in sys.path]
        own = [each for each in paths if not each.startswith(sys.prefix)]
        try:
            ray.init(
                address=address,
                runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(own))}},
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except ConnectionError as error:
            raise ValueError(f"no Ray cluster answers at {address}") from error

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """End all work that is under way, and leave the cluster."""
        self.ray.shutdown()

    def submit(
        self, function: Callable[..., Any], *arguments: Any, cpus: int = 1, gpus: float = 0
    ) -> Future[Any]:
        """Call a function in a process of its own, on the first machine with so much to spare.

        It runs in this process' working directory.
        """
        task = self.ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, max_calls=1, retry_exceptions=False
        )(_called)
        return task.remote(os.getcwd(), function, arguments).future()

    def queue(self) -> Any:
        """A queue that all machines may put something into; it lies on this one."""
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = self.ray.get_runtime_context().get_node_id()
        pinned = NodeAffinitySchedulingStrategy(here, soft=False)
        return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": pinned})


def pool(address: str | None, jobs: int) -> ProcessPoolExecutor | Cluster:
    """Where to submit work: so many processes of this machine, or a cluster.

    Each piece has a process of its own, whose peak memory is then its own.

    Raises:
        ValueError: if no cluster answers, or for fewer jobs than one.
    """
    if address is not None:
        return Cluster(address)
    if jobs < 1:
        raise ValueError(f"--jobs has to be 1 or more, not {jobs}")
    return ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1)


def add_argument(parser: ArgumentParser) -> None:
    """``--cluster``, as all commands have it."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Ray cluster whose machines see this folder; local starts one here",
    )


def _reach(address: str) -> None:
    """Raise a ValueError if nobody listens there, which Ray finds out in minutes."""
    host, _, port = address.rpartition(":")
    if address in (LOCAL, "auto") or "/" in host:
        return
    if not (host and port.isdigit()):
        raise ValueError(f"--cluster is {address!r}, but has to be host:port, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ValueError(f"no Ray cluster answers at {address}") from error


def _called(folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    os.chdir(folder)
    return function(*arguments)
