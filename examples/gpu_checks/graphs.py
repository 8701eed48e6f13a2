"""A training step recorded as one CUDA graph, and whether it is the plain step to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from measuring.peak import peak_bytes
from measuring.step import Step
from torch import nn

from .check import Check, Unavailable
from .networks import step_of

if TYPE_CHECKING:
    from .steps import Variant

WARM_UP, STEPS, IMAGES = 3, 5, 32


class GraphedStep:
    """A step that is recorded once and replayed.

    Args:
        step: to record; it has to have run before, and runs ``WARM_UP`` more times here.
    """

    def __init__(self, step: Step) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        self.step, self.graph = step, torch.cuda.CUDAGraph()
        # Gradients are then allocated by the graph, at the same place in every replay.
        step.optimizer.zero_grad()
        self.recorded = peak_bytes(self._record, step.device)

    def _record(self) -> None:
        with torch.cuda.graph(self.graph):
            self.step()

    def __call__(self) -> None:
        self.graph.replay()

    def peak(self) -> int:
        """Bytes that recording it allocated, which the graph keeps."""
        return self.recorded


def refuse_unequal(variant: Variant, check: Check) -> None:
    """Raise unless replays of a graph leave the very bits that plain steps do.

    Raises:
        AssertionError: names the first parameter or buffer that differs.
        Unavailable: where two runs of the plain step differ already.
    """
    if check.small:
        raise Unavailable("CUDA graphs need a GPU")
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        plain, again, graphed = (states(variant, check, graph) for graph in (False, False, True))
    finally:
        torch.backends.cudnn.deterministic = before
    for name, value in plain.items():
        if not torch.equal(value, again[name]):
            raise Unavailable(f"two runs of the plain step differ in {name} already")
    for name, value in plain.items():
        if not torch.equal(value, graphed[name]):
            raise AssertionError(f"{name} differs from the plain step's after {STEPS} replays")


def states(variant: Variant, check: Check, graph: bool) -> dict[str, torch.Tensor]:
    """A copy of all that the steps change."""
    network = variant.network(check)
    for module in network.modules():
        # A replay draws other numbers than a plain step does.
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    step = step_of(network, variant.model, IMAGES, check)
    if graph:
        replay = GraphedStep(step)
        for _ in range(STEPS):
            replay()
    else:
        for _ in range(WARM_UP + STEPS):
            step()
    torch.cuda.synchronize()
    tensors = (*network.named_parameters(), *network.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in tensors}
