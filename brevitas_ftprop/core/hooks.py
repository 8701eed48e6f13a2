"""Whether somebody looks on while a module is called."""

from typing import Any

from torch import nn
from torch.nn.modules import module as of_all_modules


def has_no_hooks(module: nn.Module) -> bool:
    """Whether a call of the module and of all inside it does nothing but the forward pass."""
    if (
        of_all_modules._global_forward_hooks
        or of_all_modules._global_forward_pre_hooks
        or of_all_modules._global_backward_hooks
        or of_all_modules._global_backward_pre_hooks
    ):
        return False
    # Several times as fast as module.modules(), which is asked for at every step.
    waiting: list[Any] = [module]
    while waiting:
        inner = waiting.pop()
        if inner is None:
            continue
        if (
            inner._forward_hooks
            or inner._forward_pre_hooks
            or inner._backward_hooks
            or inner._backward_pre_hooks
        ):
            return False
        waiting.extend(inner._modules.values())
    return True
