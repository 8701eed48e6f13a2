"""Timing of rivals in turn, so that what the machine does meanwhile meets all of them alike."""

from __future__ import annotations

import ctypes
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Mark = Callable[[], None]
# Seconds of each part of a call, from a number of calls.
Sample = tuple[float, ...]


# Of glibc's mallopt: how much free memory it keeps, and how large an allocation it gives back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Have the process keep the memory that it frees, where its C library is glibc.

    Memory that is given back and taken again costs more than a quantizer does, and whether that
    happens depends on what else lies on the heap: rivals would be charged by chance.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            library.mallopt(option, 2**31 - 1)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repetitions."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: list[float]) -> Spread:
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high)


def laps(call: Callable[[Mark], None], number: int, device: torch.device) -> Sample:
    """Mean seconds between the marks that a call sets, over so many calls.

    A GPU's marks are events in its stream, and the calls are sent to it without waiting between.
    """
    marks = []
    if device.type == "cuda":

        def mark() -> None:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            marks.append(event)

        torch.cuda.synchronize(device)
    else:

        def mark() -> None:
            marks.append(time.perf_counter())

    for _ in range(number):
        call(mark)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    per_call = len(marks) // number
    totals = [0.0] * (per_call - 1)
    for start in range(0, len(marks), per_call):
        for part in range(per_call - 1):
            begin, end = marks[start + part], marks[start + part + 1]
            totals[part] += begin.elapsed_time(end) / 1000 if device.type == "cuda" else end - begin
    return tuple(total / number for total in totals)


def interleaved(
    rivals: Mapping[str, Callable[[int], Sample]], *, repetitions: int, least_seconds: float
) -> dict[str, list[Sample]]:
    """Time all rivals once, then all of them again, in a new order each time.

    Args:
        rivals: name → function that makes so many calls and returns the seconds of one.
        repetitions: how many times each is timed.
        least_seconds: a rival is called as often at a time as takes this long.

    Returns:
        One sample for each repetition and rival.
    """
    numbers = {
        name: max(1, math.ceil(least_seconds / max(sum(rival(1)), 1e-9)))
        for name, rival in rivals.items()
    }
    samples: dict[str, list[Sample]] = {name: [] for name in rivals}
    order, shuffle = list(rivals), random.Random(0).shuffle
    for _ in range(repetitions):
        shuffle(order)
        for name in order:
            samples[name].append(rivals[name](numbers[name]))
    return samples
