"""What can be timed on one quantizer, here or in a process with ``BREVITAS_JIT=1``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE

from .bare import BareOp
from .command import BenchmarkError
from .quantizers import QUANTIZERS
from .timing import Mark, Sample, keep_freed_memory, laps
from .variable import variable

# What the marks of a call lie between: without gradients, and the two halves of a training step.
PARTS = ("inference", "forward", "backward")
STOCK_KINDS = ("stock", "stock-jit", "stock-compiled")
Submit = Callable[..., Any]


@dataclass(frozen=True)
class Setting:
    """What all rivals of one table have in common."""

    quantizer: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    threads: int


@dataclass(frozen=True)
class Rival:
    """One way to do the same: the copy, a stock way, or ours with its options.

    Attributes:
        kind: ``"copy"``, one of ``STOCK_KINDS``, ``"ours"`` or ``"op"``.
    """

    kind: str
    rule: str | None = None
    backend: str | None = None
    saved: str | None = None

    @property
    def name(self) -> str:
        options = (self.rule, self.backend, self.saved if self.saved != "exact" else None)
        return " ".join([self.kind, *filter(None, options)])

    @property
    def gradient(self) -> tuple[str | bool | None, ...]:
        """What decides its gradient: whether a layer, with its ReLU, is around, rule and form kept.

        Stock activations saturate; a compact form rounds the slopes.
        """
        if self.kind in STOCK_KINDS:
            return True, "saturated_ste", "exact"
        return self.kind != "op", self.rule, self.saved

    def time(self, setting: Setting, number: int) -> Sample:
        """Mean seconds of each of ``PARTS`` over so many calls after an untimed one."""
        with variable(ENVIRONMENT_VARIABLE, self.backend):
            call = _call(self, setting)
            # Whoever had its turn before has filled the caches.
            call(lambda: None)
            sample = laps(call, number, torch.device(setting.device))
        _give_back(setting)
        return sample

    def fingerprint(self, setting: Setting) -> tuple[float, ...]:
        """Sum and absolute sum of its outputs and of its gradients, in units of the latter."""
        with variable(ENVIRONMENT_VARIABLE, self.backend):
            x, grad = _data(setting)
            y = _layer(self, setting)(x)
            (grad_x,) = torch.autograd.grad(y, x, grad)
        numbers = []
        for tensor in (y.detach(), grad_x):
            absolute = torch.linalg.vector_norm(tensor, 1, dtype=torch.float64)
            numbers += [float(tensor.sum(dtype=torch.float64) / absolute), float(absolute)]
        del y, grad_x, tensor
        _give_back(setting)
        return tuple(numbers)

    @staticmethod
    def forget() -> None:
        """Free the data, the layers and what was compiled for them."""
        _data.cache_clear()
        _call.cache_clear()
        _layer.cache_clear()
        torch._dynamo.reset()


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()


@contextmanager
def scripted_process(threads: int) -> Iterator[Submit]:
    """A process in which Brevitas is scripted, as it is where ``BREVITAS_JIT=1`` at its import.

    It does one call at a time and times it by itself, so that it takes its turn among the rivals
    of this process, which waits meanwhile. It starts with the first call.
    """
    start = {"initializer": _start, "initargs": (threads,)}
    with ProcessPoolExecutor(1, get_context("spawn"), **start) as pool:

        def submit(function: Callable, *arguments: object) -> Any:
            with variable("BREVITAS_JIT", "1"):
                try:
                    return pool.submit(function, *arguments).result()
                except BrokenProcessPool as error:
                    raise BenchmarkError(
                        "the process with BREVITAS_JIT=1 ended; leave it out: --stock stock"
                    ) from error

        yield submit


def _give_back(setting: Setting) -> None:
    """Free what PyTorch only keeps for later of a GPU, so that another process can have it."""
    if setting.device == "cuda":
        torch.cuda.empty_cache()


@lru_cache(maxsize=1)
def _data(setting: Setting) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    options = {"dtype": getattr(torch, setting.dtype), "device": setting.device}
    x = torch.randn(setting.shape, **options).requires_grad_()
    return x, torch.randn(setting.shape, **options)


@cache
def _layer(rival: Rival, setting: Setting) -> nn.Module:
    if rival.kind == "op":
        layer = BareOp(setting.quantizer, rival.rule, rival.saved, setting.device)
        return layer.to(setting.device, getattr(torch, setting.dtype))
    quantizer = QUANTIZERS[setting.quantizer]
    if rival.kind == "ours":
        layer = quantizer.ours(rival.rule, rival.saved, setting.device)
    else:
        layer = quantizer.stock(setting.device)
    layer.to(setting.device, getattr(torch, setting.dtype))
    if rival.kind == "stock-compiled":
        # Its activation function included; the layer around stays, since the compiler fails on
        # Brevitas' quantized tensors.
        layer.act_quant.fused_activation_quant_proxy.compile(dynamic=False, fullgraph=True)
    return layer


@cache
def _call(rival: Rival, setting: Setting) -> Callable[[Mark], None]:
    x, grad = _data(setting)
    if rival.kind == "copy":

        def copy(mark: Mark) -> None:
            data = x.detach()
            for source in (data, data, grad):
                mark()
                source.clone()
            mark()

        return copy
    layer = _layer(rival, setting)
    learned = list(layer.parameters())

    def call(mark: Mark) -> None:
        mark()
        with torch.no_grad():
            layer(x)
        mark()
        y = layer(x)
        mark()
        gradients = torch.autograd.grad(y, [x, *learned], grad)
        # What a rival allocates it also has to free.
        del y, gradients
        mark()

    return call
