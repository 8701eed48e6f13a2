"""What can be timed on one quantizer, here or in a process with ``BREVITAS_JIT=1``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context

import torch
from quantizers import QUANTIZERS
from timing import Mark, Sample, laps
from torch import Tensor, nn

from brevitas_ftprop import ops

__all__ = ["PARTS", "STOCK_KINDS", "Rival", "Setting", "scripted_process"]

# What the marks of a call lie between: without gradients, and the two halves of a training step.
PARTS = ("inference", "forward", "backward")
STOCK_KINDS = ("stock", "stock jit", "stock compiled")
BACKEND = "BREVITAS_FTPROP_BACKEND"
# The bare autograd functions, without Brevitas' layer around.
OPS: dict[str, Callable[..., Tensor]] = {
    "sign": lambda x, rule, **options: ops.binary_sign(x, x.new_ones(()), rule, "grad", **options),
    "staircase3": lambda x, rule, **options: ops.paper_staircase(
        x, 3, 1.0, rule, "grad", "single", **options
    ),
}


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
    def gradient(self) -> str | None:
        """The rule that it follows; stock activations saturate."""
        return "saturated_ste" if self.kind in STOCK_KINDS else self.rule

    def time(self, setting: Setting, number: int) -> Sample:
        """Mean seconds of each of ``PARTS`` over so many calls."""
        with _backend(self.backend):
            return laps(_call(self, setting), number, torch.device(setting.device))

    def fingerprint(self, setting: Setting) -> tuple[float, ...]:
        """Sum and absolute sum of its outputs and of its gradients, in units of the latter."""
        with _backend(self.backend):
            x, grad = _data(setting)
            y = _layer(self, setting)(x)
            (grad_x,) = torch.autograd.grad(y, x, grad)
        numbers = []
        for tensor in (y.detach(), grad_x):
            absolute = torch.linalg.vector_norm(tensor, 1, dtype=torch.float64)
            numbers += [float(tensor.sum(dtype=torch.float64) / absolute), float(absolute)]
        return tuple(numbers)

    @staticmethod
    def forget() -> None:
        """Free the data, the layers and what was compiled for them."""
        _data.cache_clear()
        _call.cache_clear()
        _layer.cache_clear()
        torch._dynamo.reset()


@contextmanager
def scripted_process() -> Iterator[Callable[[Callable, Setting, int | None], tuple[float, ...]]]:
    """A process in which Brevitas is scripted, as it is where ``BREVITAS_JIT=1`` at its import.

    It does one call at a time and times it by itself, so that it takes its turn among the rivals
    of this process, which waits meanwhile.
    """
    # Before anything is submitted there is no process, and it inherits the environment.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:

        def submit(function: Callable, *arguments: object) -> tuple[float, ...]:
            before = os.environ.get("BREVITAS_JIT")
            os.environ["BREVITAS_JIT"] = "1"
            try:
                return pool.submit(_in_scripted_process, function, *arguments).result()
            finally:
                _restore("BREVITAS_JIT", before)

        yield submit


def _in_scripted_process(function: Callable, *arguments: object) -> tuple[float, ...]:
    setting = next(a for a in arguments if isinstance(a, Setting))
    torch.set_num_threads(setting.threads)
    return function(*arguments)


@contextmanager
def _backend(name: str | None) -> Iterator[None]:
    if name is None:
        yield
        return
    before = os.environ.get(BACKEND)
    os.environ[BACKEND] = name
    try:
        yield
    finally:
        _restore(BACKEND, before)


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value


@lru_cache(maxsize=1)
def _data(setting: Setting) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    options = {"dtype": getattr(torch, setting.dtype), "device": setting.device}
    x = torch.randn(setting.shape, **options).requires_grad_()
    return x, torch.randn(setting.shape, **options)


@lru_cache(maxsize=None)
def _layer(rival: Rival, setting: Setting) -> Callable[[Tensor], Tensor]:
    if rival.kind == "op":
        options = {} if rival.saved == "exact" else {"saved": rival.saved}
        return lambda x: OPS[setting.quantizer](x, rival.rule, **options)
    quantizer = QUANTIZERS[setting.quantizer]
    layer = quantizer.ours(rival.rule, rival.saved) if rival.kind == "ours" else quantizer.stock()
    layer.to(setting.device, getattr(torch, setting.dtype))
    if rival.kind == "stock compiled":
        layer.act_quant.fused_activation_quant_proxy.compile(dynamic=False, fullgraph=True)
    return layer


@lru_cache(maxsize=None)
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
    learned = list(layer.parameters()) if isinstance(layer, nn.Module) else []

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
