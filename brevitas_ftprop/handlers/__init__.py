"""Handlers with which Brevitas' export and inference managers treat target-prop proxies.

Importing this package registers them.
"""

from typing import Any

from brevitas.export.inference.manager import InferenceManager
from brevitas.export.manager import BaseManager
from brevitas.export.onnx.qonnx.manager import QONNXManager
from brevitas.export.onnx.standard.qcdq.manager import StdQCDQONNXManager
from brevitas.export.torch.qcdq.manager import TorchQCDQManager
from brevitas.proxy import (
    ActQuantProxyFromInjector,
    BiasQuantProxyFromInjector,
    WeightQuantProxyFromInjector,
)
from brevitas.proxy.runtime_quant import TruncQuantProxyFromInjector

from ..levels import level_function
from .plain import PlainActHandler, PlainWeightHandler
from .qcdq import QCDQActHandler, QCDQWeightHandler
from .qonnx import QONNXActHandler, QONNXBiasHandler, QONNXWeightHandler
from .truncation import QCDQTruncHandler, QONNXTruncHandler

__all__ = [
    "PlainActHandler",
    "PlainWeightHandler",
    "QCDQActHandler",
    "QCDQTruncHandler",
    "QCDQWeightHandler",
    "QONNXActHandler",
    "QONNXBiasHandler",
    "QONNXTruncHandler",
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
# Of stock proxies that have no rule.
STOCK_HANDLERS: dict[type[BaseManager], dict[type, type]] = {
    QONNXManager: {
        BiasQuantProxyFromInjector: QONNXBiasHandler,
        TruncQuantProxyFromInjector: QONNXTruncHandler,
    },
    StdQCDQONNXManager: {TruncQuantProxyFromInjector: QCDQTruncHandler},
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
    Quant node's rounding mode to FINN, which ignores it; they truncate without restoring the
    integers, and write roundings by names that QONNX does not know. Ours are exact, so our
    exporters use them for stock proxies too.

    Args:
        manager: a Brevitas export manager or a subclass of one.
        proxy: any quantizer proxy.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas.quant import SignedBinaryActPerTensorConst
    >>> act = QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
    >>> handler_for_stock(StdQCDQONNXManager, act.act_quant).__name__
    'QCDQActHandler'
    """
    bases = [base for base in manager.__mro__ if base in HANDLERS]
    own = next((STOCK_HANDLERS[base] for base in bases if base in STOCK_HANDLERS), {})
    if type(proxy) in own:
        return own[type(proxy)]
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
    return HANDLERS[bases[0]][is_weight] if bases else None


register_handlers()
