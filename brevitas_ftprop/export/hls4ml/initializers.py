"""Constants and shapes of qonnx graphs."""

from __future__ import annotations

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper

from ..errors import ExportError

__all__ = ["read_constant", "shape_of"]


def read_constant(model: ModelWrapper, name: str) -> np.ndarray:
    """Value of a constant tensor.

    Raises:
        ExportError: if the tensor is computed.
    """
    value = model.get_initializer(name)
    if not isinstance(value, np.ndarray):
        raise ExportError(f"{name} is computed, not constant")
    return value


def shape_of(model: ModelWrapper, name: str) -> tuple[int, ...]:
    """Shape of a tensor.

    Raises:
        ExportError: if it is not known.
    """
    shape = model.get_tensor_shape(name)
    if shape is None:
        raise ExportError(f"the shape of {name} is not known: run InferShapes first")
    return tuple(shape)
