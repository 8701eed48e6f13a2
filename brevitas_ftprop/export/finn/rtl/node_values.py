"""What every node of a partition takes and gives, by FINN's own Python models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper

from ...errors import VerificationError
from ..execution import CannotRunError, executable, run
from .partition import inputs_of


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
    (source,), plain = inputs_of(model), executable(model)
    kept: dict[str, list[NDArray]] = {name: [] for name in tensors}
    try:
        for image in batch:
            context = run(plain, {source: image})
            for name, values in kept.items():
                values.append(np.array(context[name]))
    except CannotRunError as error:
        raise VerificationError(f"the executor cannot run the partition: {error}") from error
    return {name: np.stack(values) for name, values in kept.items()}
