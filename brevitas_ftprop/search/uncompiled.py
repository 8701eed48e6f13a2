"""Compiled models, whose operators a search does not see."""

from collections.abc import Iterable

from torch import nn


def refuse_compiled(model: nn.Module, quantizers: Iterable[str]) -> None:
    """Raise if some part of a model that holds one of the quantizers is compiled.

    Args:
        model: to be searched.
        quantizers: names of modules in it.

    Raises:
        ValueError: naming the part.
    """
    for name, module in model.named_modules():
        # By its own method, or as torch.compile wraps it.
        if module._compiled_call_impl is None and "_orig_mod" not in module._modules:
            continue
        prefix = f"{name}." if name else ""
        if any(quantizer.startswith(prefix) for quantizer in quantizers):
            raise ValueError(
                f"{name or type(model).__name__} is compiled, which hides what runs in it: search "
                "for the targets of a model that is not"
            )
