"""Load a partition and refuse what cannot be simulated before any work is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto
from qonnx.core.datatype import BaseDataType
from qonnx.core.modelwrapper import ModelWrapper

from ...errors import DamagedFileError, VerificationError
from ...graph_reading import shape_of
from ..execution import HARDWARE

PARENT = "StreamingDataflowPartition"


def load_partition(
    partition: str | os.PathLike[str] | ModelWrapper | ModelProto,
) -> ModelWrapper:
    """A copy of a partition.

    Raises:
        TypeError: for anything but a path or a model.
        FileNotFoundError: if there is no file.
        VerificationError: if the file is damaged or holds no partition.
    """
    if isinstance(partition, str | os.PathLike):
        label = str(partition)
        model = ModelWrapper(_read(Path(partition)))
    elif isinstance(partition, ModelWrapper | ModelProto):
        label = "the model"
        proto = partition.model if isinstance(partition, ModelWrapper) else partition
        model = ModelWrapper(proto, make_deepcopy=True)
    else:
        raise TypeError(
            f"expected the path of a partition or a qonnx ModelWrapper, got "
            f"{type(partition).__name__}"
        )
    nodes = list(model.graph.node)
    if any(node.op_type == PARENT for node in nodes):
        raise VerificationError(
            f"{label} is the parent of a partition: give the file named by the attribute 'model' "
            f"of its {PARENT} node"
        )
    hardware = [node for node in nodes if node.domain.startswith(HARDWARE)]
    if not hardware:
        raise VerificationError(f"{label} holds no FINN hardware node: give a dataflow partition")
    if all(node.domain == HARDWARE for node in hardware):
        raise VerificationError(
            f"the nodes of {label} are neither RTL nor HLS yet: run FINN's SpecializeLayers first"
        )
    if len(inputs_of(model)) != 1:
        raise VerificationError(
            f"{label} has {len(inputs_of(model))} inputs; partitions with one can be simulated"
        )
    if min(model.get_tensor_shape(inputs_of(model)[0]) or [0]) < 1:
        raise DamagedFileError(f"the input of {label} has no fixed shape")
    return model


def check_batch(batch: NDArray | torch.Tensor, model: ModelWrapper) -> NDArray[np.float32]:
    """The batch as float32 (images, 1 or more, …), one entry for each run of the partition.

    Raises:
        TypeError: for other types.
        ValueError: for another shape, an empty batch, or values outside the input's datatype.
    """
    if isinstance(batch, torch.Tensor):
        batch = batch.detach().cpu().numpy()
    if not isinstance(batch, np.ndarray) or batch.dtype.kind not in "biuf":
        raise TypeError(
            f"the batch must be a numpy array or torch tensor of numbers, got "
            f"{getattr(batch, 'dtype', type(batch).__name__)}"
        )
    name = inputs_of(model)[0]
    shape = tuple(shape_of(model, name))
    if batch.ndim != len(shape) or batch.shape[1:] != shape[1:] or batch.shape[0] % shape[0]:
        wanted = ", ".join(map(str, shape[1:]))
        raise ValueError(
            f"the batch has shape {batch.shape}, but the partition takes (N, {wanted})"
            + (f" with N a multiple of {shape[0]}" if shape[0] > 1 else "")
        )
    if batch.size == 0:
        raise ValueError("the batch is empty")
    check_values(batch, model.get_tensor_datatype(name), "the batch")
    return batch.astype(np.float32).reshape(-1, *shape)


def check_values(values: NDArray, datatype: BaseDataType, label: str) -> None:
    """Raise unless all values belong to a QONNX datatype.

    Raises:
        ValueError: names the first value that does not.
    """
    fits = np.isfinite(values)
    if datatype.is_integer():
        fits &= np.asarray(datatype.allowed(values), dtype=bool)
    if not fits.all():
        raise ValueError(
            f"{label} holds {values[~fits].flat[0]:g}, which is no {datatype.name} value"
        )


def check_names(nodes: str | Sequence[str], model: ModelWrapper) -> set[str]:
    """The names of the nodes to simulate.

    Raises:
        ValueError: if one is unknown or none is given.
    """
    known = [node.name for node in model.graph.node]
    if isinstance(nodes, str):
        if nodes == "all":
            return set(known)
        nodes = [nodes]
    names = list(nodes)
    if not names:
        raise ValueError("no nodes to simulate: give names, or 'all'")
    for name in names:
        if name not in known:
            raise ValueError(f"the partition has no node {name!r}; it has {', '.join(known)}")
    return set(names)


def _read(path: Path) -> ModelProto:
    if path.is_dir():
        raise FileNotFoundError(
            f"{path} is a folder: give the partition in it, such as 7_folded.onnx, or simulate the "
            "whole accelerator"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file")
    try:
        # Whatever its name ends in.
        model = onnx.load(path, format="protobuf")
    except (DecodeError, OSError, onnx.checker.ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise DamagedFileError(f"{path} is not an ONNX file, or is damaged: {reason}") from error
    return model


def inputs_of(model: ModelWrapper) -> list[str]:
    """Names of the inputs that are no constants."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in constants]
