"""Handlers with which Brevitas' export and inference managers treat target-prop proxies.

Importing this package registers them.
"""

from brevitas.export.inference.manager import InferenceManager
from brevitas.export.onnx.qonnx.manager import QONNXManager
from brevitas.export.onnx.standard.qcdq.manager import StdQCDQONNXManager
from brevitas.export.torch.qcdq.manager import TorchQCDQManager

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
    "register_handlers",
]


def register_handlers() -> None:
    """Add our handlers to Brevitas' managers, once; the dynamo managers share their lists.

    >>> register_handlers()
    >>> QONNXManager.handlers.count(QONNXActHandler)
    1
    """
    for manager, handlers in (
        (QONNXManager, (QONNXActHandler, QONNXWeightHandler)),
        (StdQCDQONNXManager, (QCDQActHandler, QCDQWeightHandler)),
        (TorchQCDQManager, (PlainActHandler, PlainWeightHandler)),
        (InferenceManager, (PlainActHandler, PlainWeightHandler)),
    ):
        manager.handlers.extend(h for h in handlers if h not in manager.handlers)


register_handlers()
