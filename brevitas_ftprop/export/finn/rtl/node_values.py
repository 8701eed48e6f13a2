"""What every node of a partition takes and gives, by FINN's own Python models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from ...errors import VerificationError
from ...quiet import silence
from ..execution import executable

__all__ = ["execute"]


def execute(
    model: ModelWrapper, batch: NDArray[np.float32], tensors: Iterable[str]
) -> dict[str, NDArray]:
    """Run a partition image by image and record some of its tensors.

    Args:
        model: the partition.
        batch: (images, …), each entry an input of the partition.
        tensors: names of the tensors to record.

    Returns:
        Each tensor's values, (images, …).

    Raises:
        VerificationError: if the executor cannot run the partition.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    (source,) = (v.name for v in model.graph.input if v.name not in constants)
    kept: dict[str, list[NDArray]] = {name: [] for name in tensors}
    try:
        with silence():
            plain = executable(model)
            for image in batch:
                context = execute_onnx(plain, {source: image}, return_full_exec_context=True)
                for name, values in kept.items():
                    values.append(np.array(context[name]))
    except Exception as error:
        raise VerificationError(f"the executor cannot run the partition: {error}") from error
    return {name: np.stack(values) for name, values in kept.items()}
