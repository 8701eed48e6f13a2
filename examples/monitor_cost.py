"""What watching costs: the processor time of the monitor's own code within that of training steps.

Timed inside the steps, since whole steps vary by more than the monitor takes where other processes
run beside them.

    python examples/monitor_cost.py --model resnet18
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from brevitas_ftprop import models
from brevitas_ftprop.monitor import Monitor
from brevitas_ftprop.monitor.watch import Watch, WatchedCall

MODELS = {
    "convnet4": lambda act: models.ConvNet4(10, 32, act=act),
    "resnet18": lambda act: models.QuantResNet18(10, "cifar", base=16, act=act),
}


class Stopwatch:
    """Adds up the time that functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def times(self, function: Callable) -> Callable:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return timed


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="convnet4")
    parser.add_argument("--act", default="sign")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10, help="sampled steps")
    parser.add_argument("--every", type=int, default=50)
    arguments = parser.parse_args(argv)

    torch.manual_seed(0)
    model = MODELS[arguments.model](arguments.act)
    images = torch.randn(arguments.batch_size, 3, 32, 32)
    labels = torch.randint(10, (arguments.batch_size,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    stopwatch = Stopwatch()
    parts = ((Watch, "__call__"), (WatchedCall, "receive"), (Monitor, "step"))
    originals = [(owner, name, getattr(owner, name)) for owner, name in parts]
    steps, monitoring = [], {True: [], False: []}
    try:
        for owner, name, function in originals:
            setattr(owner, name, stopwatch.times(function))
        with Monitor(model, every=2) as monitor:
            for _ in range(2 * arguments.rounds):
                sampled, stopwatch.seconds, start = monitor.sampling, 0.0, time.process_time()
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
                monitor.step()
                monitoring[sampled].append(stopwatch.seconds)
                steps.append(time.process_time() - start - stopwatch.seconds)
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)

    step = statistics.median(steps)
    at_sample, otherwise = (statistics.median(monitoring[kind]) for kind in (True, False))
    cost = (at_sample + otherwise * (arguments.every - 1)) / arguments.every / step
    print(f"a step takes {1000 * step:.1f} ms without the monitor, which takes")
    print(f"{1000 * at_sample:.2f} ms in a sampled step and {1000 * otherwise:.2f} ms in another:")
    print(f"{cost:.2%} where one step in {arguments.every} is sampled")
    return {"step": step, "sampled": at_sample, "otherwise": otherwise, "cost": cost}


if __name__ == "__main__":
    main()
