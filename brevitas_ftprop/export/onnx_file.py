"""Write ONNX files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from google.protobuf.message import EncodeError
from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from .checks import check_batch, check_finite, check_model, check_path
from .errors import ExportError
from .output_file import output_file


def export_file(
    build: Callable[[], ModelProto],
    model: Module,
    example_input: Tensor,
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
) -> Path:
    """Check the arguments of an export, build its graph and write it.

    Args:
        build: makes the graph once all is checked.
        model, example_input, path, overwrite: as ``export_qonnx`` takes them.

    Returns:
        The path written.

    Raises:
        ExportError: if the model is too large for one protobuf file (2 GiB).
        OSError: if the file cannot be written; whatever was at ``path`` is untouched.
        Others: as ``export_qonnx``.
    """
    check_model(model)
    check_finite(model)
    check_batch(example_input, name="example_input")
    target = check_path(path, overwrite=overwrite)
    write_model(build(), target, overwrite=overwrite)
    return target


def write_model(graph: ModelProto, target: Path, *, overwrite: bool) -> None:
    """Write a graph whole or not at all.

    Raises:
        ExportError: if it is too large for one protobuf file (2 GiB).
        OSError: if the file cannot be written; whatever was at ``target`` is untouched.
    """
    try:
        content = graph.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ExportError(f"the model does not fit into one ONNX file of 2 GiB: {error}") from error
    with output_file(target, overwrite=overwrite) as stream:
        stream.write(content)
