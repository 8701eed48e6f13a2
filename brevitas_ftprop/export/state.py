"""Leave a model and Brevitas' global export state as they were, whatever an export does to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from brevitas import config
from brevitas.export.manager import BaseManager
from torch import Tensor
from torch.nn import Module


@contextmanager
def export_state(model: Module) -> Iterator[None]:
    """Restore the model and Brevitas' export globals on every way out of the block.

    Restored are every attribute of every module (training flags, export mode and handlers,
    cached values, caching and quant-tensor flags, hooks; not what a list among them holds), the
    submodules, the values and ``requires_grad`` of parameters and buffers, and of Brevitas the
    ongoing export, the managers' function caches and the handlers' class attributes. Stock Brevitas
    restores them only after a successful export.

    >>> model = torch.nn.Linear(2, 2)
    >>> with export_state(model):
    ...     model.eval().leftover = 1
    ...     model.weight.requires_grad = False
    >>> model.training, model.weight.requires_grad, hasattr(model, "leftover")
    (True, True, False)
    """
    modules = [(module, _attributes(module)) for module in model.modules()]
    tensors = [
        (tensor, tensor.requires_grad, tensor.detach().clone())
        for tensor in (*model.parameters(), *model.buffers())
    ]
    ongoing = config._ONGOING_EXPORT
    managers = [(manager, _class_state(manager)) for manager in _managers()]
    try:
        yield
    finally:
        config._ONGOING_EXPORT = ongoing
        for manager, (cache, pending, flags) in managers:
            manager._fn_cache[:] = cache
            manager._fn_to_cache[:] = pending
            for handler, flag in flags:
                handler._export_q_node = flag
        for module, attributes in modules:
            _restore_attributes(module, attributes)
        with torch.no_grad():
            for tensor, requires_grad, value in tensors:
                # Tensors made in inference mode refuse both, and need neither.
                if tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)
                if not _same_bits(tensor, value):
                    tensor.copy_(value)


def _attributes(module: Module) -> dict[str, Any]:
    # The containers are copied, not only referred to: an export adds children to them.
    return {
        name: value.copy() if isinstance(value, dict) else value
        for name, value in vars(module).items()
    }


def _restore_attributes(module: Module, attributes: dict[str, Any]) -> None:
    present = vars(module)
    for name in [name for name in present if name not in attributes]:
        del present[name]
    for name, value in attributes.items():
        container = present.get(name)
        if isinstance(value, dict) and isinstance(container, dict):
            # Filled again in place: handles of hooks keep referring to the same dict.
            container.clear()
            container.update(value)
        else:
            present[name] = value


def _same_bits(tensor: Tensor, value: Tensor) -> bool:
    return torch.equal(tensor, value) and not bool(tensor.isnan().any())


def _managers(parent: type = BaseManager) -> list[Any]:
    found = [parent]
    for manager in parent.__subclasses__():
        found += _managers(manager)
    return found


def _class_state(manager: Any) -> tuple[list, list, list[tuple[Any, bool]]]:
    flags = [
        (handler, handler._export_q_node)
        for handler in manager.handlers
        if hasattr(handler, "_export_q_node")
    ]
    return list(manager._fn_cache), list(manager._fn_to_cache), flags
