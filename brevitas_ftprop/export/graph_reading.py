"""Read a graph of QONNX or FINN."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from .errors import ExportError


def attributes_of(node: NodeProto) -> Any:
    """The attributes of a QONNX or FINN node, with their defaults."""
    return getCustomOp(node)


def initializer(model: ModelWrapper, name: str) -> np.ndarray | None:
    """Value of an initializer; None for any other tensor."""
    return cast("np.ndarray | None", model.get_initializer(name))


def read_constant(model: ModelWrapper, name: str) -> np.ndarray:
    """Value of an initializer.

    Raises:
        ExportError: for any other tensor.
    """
    value = initializer(model, name)
    if value is None:
        raise ExportError(f"{name} is computed, not constant")
    return value


def scalar(model: ModelWrapper, name: str) -> float | None:
    """The number that an initializer holds, None if it is none or has several values."""
    value = initializer(model, name)
    if value is None or np.unique(value).size != 1:
        return None
    return float(value.reshape(-1)[0])


def shape_of(model: ModelWrapper, name: str) -> list[int]:
    """Shape of a tensor.

    Raises:
        ExportError: if it is not known.
    """
    shape = model.get_tensor_shape(name)
    if shape is None:
        raise ExportError(f"the shape of {name} is not known: run InferShapes first")
    return shape
