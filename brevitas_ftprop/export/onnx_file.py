"""Write ONNX files whole or not at all."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import EncodeError
from onnx import ModelProto

from .errors import ExportError
from .output_file import output_file

__all__ = ["write_atomically"]


def write_atomically(model: ModelProto, path: Path, *, overwrite: bool) -> None:
    """Write a model, whole or not at all; without ``overwrite`` only to a name that is free then.

    Raises:
        ExportError: if the model is too large for one protobuf file (2 GiB).
        OSError: if the file cannot be written; whatever was at ``path`` is untouched.
    """
    try:
        content = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ExportError(f"the model does not fit into one ONNX file of 2 GiB: {error}") from error
    with output_file(path, overwrite=overwrite) as stream:
        stream.write(content)
