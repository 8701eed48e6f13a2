"""Handlers with which Brevitas' export and inference managers treat target-prop proxies.

Importing this package registers them.
"""

from typing import Any

from brevitas.export.inference.manager import InferenceManager
from brevitas.export.manager import BaseManager
from brevitas.export.onnx.qonnx.manager import QONNXManager
from brevitas.export.onnx.standard.qcdq.manager import StdQCDQONNXManager
from brevitas.export.torch.qcdq.manager import TorchQCDQManager
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector

from ..levels import level_function
from .plain import PlainActHandler, PlainWeightHandler
from .qcdq import QCDQActHandler, QCDQWeightHandler
from .qonnx import QONNXActHandler, QONNXWeightHandler

__all__ = [
    "PlainActHandler",
    "PlainWeightHandler",
    "QCDQActHandler",
    "QCDQWeightHandler",
    "QONNXActHandler",
    "QONNXWeightHandler",
    "handler_for_stock",
    "register_handlers",
]


HANDLERS: dict[type[BaseManager], tuple[type, type]] = {
    QONNXManager: (QONNXActHandler, QONNXWeightHandler),
    StdQCDQONNXManager: (QCDQActHandler, QCDQWeightHandler),
    TorchQCDQManager: (PlainActHandler, PlainWeightHandler),
    InferenceManager: (PlainActHandler, PlainWeightHandler),
}


def register_handlers() -> None:
    """Add our handlers to Brevitas' managers, once; the dynamo managers share their lists.

    >>> register_handlers()
    >>> QONNXManager.handlers.count(QONNXActHandler)
    1
    """
    for manager, handlers in HANDLERS.items():
        manager.handlers.extend(h for h in handlers if h not in manager.handlers)


def handler_for_stock(manager: type[BaseManager], proxy: Any) -> type | None:
    """Our handler for a stock Brevitas proxy; None where Brevitas' own has to do.

    Stock handlers refuse binary quantizers in QCDQ, add a zero-point after rounding and leave a
    Quant node's rounding mode to FINN, which ignores it. Ours know each integer and binary
    quantizer exactly, so our exporters use them for stock proxies too.

    Args:
        manager: a Brevitas export manager or a subclass of one.
        proxy: any quantizer proxy.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas.quant import SignedBinaryActPerTensorConst
    >>> act = QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
    >>> handler_for_stock(StdQCDQONNXManager, act.act_quant).__name__
    'QCDQActHandler'
    """
    is_weight = type(proxy) is WeightQuantProxyFromInjector
    if not is_weight and type(proxy) is not ActQuantProxyFromInjector:
        return None
    if not proxy.is_quant_enabled or (is_weight and len(proxy.tracked_parameter_list) > 1):
        return None
    try:
        level_function(proxy)
    except TypeError:
        return None
    except ValueError:
        # Our handler repeats it when it prepares, with the layer's name around it.
        pass
    found = next((HANDLERS[base] for base in manager.__mro__ if base in HANDLERS), None)
    return None if found is None else found[is_weight]


register_handlers()
