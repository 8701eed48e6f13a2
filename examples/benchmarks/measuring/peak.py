"""The most memory that PyTorch holds at a time during a call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """How far the allocated bytes rise above where they stand before the call.

    On the CPU from the profiler's record of every allocation, which leaves out what libraries
    allocate past PyTorch; on a GPU from the allocator's own peak.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        call()
    # The public lists give an operator the sum of its allocations, not their order.
    events = record.profiler.kineto_results.events()
    allocations = [event for event in events if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
