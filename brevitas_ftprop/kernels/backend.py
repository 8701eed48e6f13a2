"""Choosing how fast: the backend that computes a step."""

import logging
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from ..rules import Rule
from .backends import blocked, compiled, eager, triton_backend
from .backends.eager import Asked, Gradients
from .saved_forms import Keep
from .step import Operands, Step

ENVIRONMENT_VARIABLE = "BREVITAS_FTPROP_BACKEND"

logger = logging.getLogger(__name__)


class Backend(Protocol):
    """What a module of this package has to define to be one."""

    @property
    def reason_against(self) -> Callable[[torch.device, Step, Operands, Rule], str | None]: ...

    @property
    def forward(self) -> Callable[[Step, Tensor, Operands, Rule, Keep], tuple[Tensor, Tensor]]: ...

    @property
    def backward(
        self,
    ) -> Callable[[Step, Tensor, Tensor | None, Operands, Rule, Asked], Gradients]: ...


BACKENDS: dict[str, Backend] = {
    "eager": eager,
    "blocked": blocked,
    "compiled": compiled,
    "triton": triton_backend,
}
# By the type of device, the fastest first; eager takes what is left. Triton's interpreter computes
# on the CPU too, for those who ask for it.
AUTOMATIC = {"cuda": ("triton", "eager"), "cpu": ("blocked", "eager")}


def choose_backend(
    backend: str, device: torch.device, step: Step, operands: Operands, rule: Rule
) -> Backend:
    """The backend that was asked for, or else the fastest that can compute a step.

    Args:
        backend: a name, or ``"auto"``: what the environment variable
            ``BREVITAS_FTPROP_BACKEND`` says, and where it is not set, the fastest.
        device: where the step's input is.
        step, operands, rule: what is to be computed.

    Raises:
        ValueError: for an unknown backend, or one that was asked for and cannot compute this.

    >>> from brevitas_ftprop.kernels.registered_steps import Sign
    >>> from brevitas_ftprop.rules import get_rule
    >>> what = Sign(), Operands(torch.tensor(1.0)), get_rule("hinge")
    >>> choose_backend("auto", torch.device("cpu"), *what).__name__
    'brevitas_ftprop.kernels.backends.blocked'
    """
    source = "backend"
    if backend == "auto":
        source, backend = ENVIRONMENT_VARIABLE, os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"{source} must be auto or one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend != "auto":
        reason = BACKENDS[backend].reason_against(device, step, operands, rule)
        if reason is not None:
            raise ValueError(f"{source}={backend} cannot compute this step: {reason}")
        return BACKENDS[backend]
    for name in AUTOMATIC.get(device.type, ("eager",)):
        reason = BACKENDS[name].reason_against(device, step, operands, rule)
        if reason is None:
            return BACKENDS[name]
        _log_once(logging.WARNING if device.type == "cuda" else logging.INFO, name, reason)
    raise AssertionError("eager computes everything")


def is_compiled_chosen(backend: str) -> bool:
    """Whether ``compiled`` is asked for, by a call or by the environment variable.

    >>> is_compiled_chosen("compiled"), is_compiled_chosen("blocked")
    (True, False)
    """
    if backend == "auto":
        backend = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    return backend == "compiled"


@lru_cache(maxsize=256)
def _log_once(level: int, name: str, reason: str) -> None:
    # On a GPU eager is several times as slow as kernels, and nobody would know why.
    logger.log(level, "not using the %s backend: %s", name, reason)
