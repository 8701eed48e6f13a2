"""Mark where each quantizer begins and ends while a model is traced.

A marker is an identity node that carries the proxy's name and the number of the call. Markers keep
exporters from merging or folding across a quantizer, and name it whatever they rename; they are
turned into node metadata and removed afterwards (see ``tags``).
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from brevitas.export.onnx.function import DynamoFn
from brevitas.export.onnx.handler import ONNXExportOpMixin
from brevitas.nn.mixin.base import QuantRecurrentLayerMixin
from torch import Tensor
from torch.autograd import Function
from torch.nn import Module

from ..handlers import handler_for_stock
from .errors import ExportError
from .quantizers import ACTIVATION, kind_of, quantizer_proxies

DOMAIN = "brevitas_ftprop.marker"
BEGIN = "Begin"
END = "End"


def marking_manager(manager: type, model: Module) -> type:
    """A subclass of a Brevitas export manager that marks the quantizers of ``model``."""
    names = {id(proxy): name for name, proxy in quantizer_proxies(model).items()}
    layers = {id(module): name for name, module in model.named_modules()}

    class MarkingManager(manager):
        @classmethod
        def set_export_handler(cls, module: Any) -> None:
            # One that several layers share is met once a layer.
            if isinstance(getattr(module, "export_handler", None), _Marked):
                return
            super().set_export_handler(module)
            if _is_unknown_layer(module):
                raise ExportError(
                    f"{layers[id(module)]}: Brevitas cannot export a {type(module).__name__}"
                )
            name = names.get(id(module))
            if name is None:
                return
            exact = handler_for_stock(manager, module)
            if exact is not None:
                module.export_handler = exact()
            if module.export_handler is None:
                raise ExportError(
                    f"{name}: Brevitas has no export handler for {type(module).__name__}"
                )
            module.export_handler = _Marked(
                module.export_handler, name, begins=kind_of(module) == ACTIVATION
            )

    return MarkingManager


def _is_unknown_layer(module: Any) -> bool:
    is_recurrent = isinstance(module, QuantRecurrentLayerMixin)
    return is_recurrent and getattr(module, "export_handler", None) is None


def count_anew(model: Module) -> None:
    """Give the next call of each quantizer the number 0, at the start of a forward pass."""
    for proxy in quantizer_proxies(model).values():
        handler = proxy.export_handler
        if isinstance(handler, _Marked):
            handler.calls = count()


class _Marked(ONNXExportOpMixin, Module):
    """An export handler whose output, and for activations whose input, is marked."""

    handler: Any

    def __init__(self, handler: Module, name: str, *, begins: bool) -> None:
        super().__init__()
        self.handler = handler
        self.name = name
        self.begins = begins
        self.calls = count()

    def prepare_for_export(self, module: Module) -> None:
        try:
            self.handler.prepare_for_export(module)
        except Exception as error:
            raise ExportError(f"{self.name}: {error or type(error).__name__}") from error

    def attach_debug_info(self, module: Module) -> None:
        self.handler.attach_debug_info(module)

    def forward(self, x: Tensor, *args, **kwargs):
        if x.dim() == 0:
            # A question of Brevitas' for the scale, and no call.
            return self.handler(x, *args, **kwargs)
        call = next(self.calls)
        if self.begins:
            x = self.export_op(_MarkerOp, x, BEGIN, self.name, call)
        value, *rest = self.handler(x, *args, **kwargs)
        return (self.export_op(_MarkerOp, value, END, self.name, call), *rest)


class _TorchScriptMarker(Function):
    @staticmethod
    def symbolic(g, x, side, name, call):
        marked = g.op(f"{DOMAIN}::{side}", x, quantizer_s=name, call_i=call)
        marked.setType(x.type())
        return marked

    @staticmethod
    def forward(ctx, x, side, name, call):
        return x.view_as(x)


class _DynamoMarker(DynamoFn):
    @staticmethod
    def symbolic(x, side, name, call):
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{side}",
            (x,),
            {"quantizer": name, "call": call},
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )


class _MarkerOp:
    torchscript = _TorchScriptMarker
    dynamo = _DynamoMarker
