"""The two file formats: who writes them, and in which version of ONNX."""

from __future__ import annotations

from dataclasses import dataclass

from brevitas.export.manager import BaseManager
from brevitas.export.onnx.qonnx.manager import QONNXDynamoManager, QONNXManager
from brevitas.export.onnx.standard.qcdq.manager import StdQCDQONNXDynamoManager, StdQCDQONNXManager


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        torchscript, dynamo: Brevitas' managers, one for each of torch's exporters.
        opset: version of the standard operators.
    """

    torchscript: type[BaseManager]
    dynamo: type[BaseManager]
    opset: int


QONNX = Format(QONNXManager, QONNXDynamoManager, 20)
# 18 is what the dynamo exporter gives by itself; converting down from it fails.
QCDQ = Format(StdQCDQONNXManager, StdQCDQONNXDynamoManager, 18)
