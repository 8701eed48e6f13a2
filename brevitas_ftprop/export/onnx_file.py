"""Write ONNX files whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from google.protobuf.message import EncodeError
from onnx import ModelProto

from .errors import ExportError

__all__ = ["write_atomically"]


def write_atomically(model: ModelProto, path: Path) -> None:
    """Write a model through a temporary file in the same folder, then move it into place.

    Raises:
        ExportError: if the model is too large for one protobuf file (2 GiB).
        OSError: if the file cannot be written; whatever was at ``path`` is untouched.
    """
    try:
        content = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ExportError(f"the model does not fit into one ONNX file of 2 GiB: {error}") from error
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, _permissions(path))
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _permissions(path: Path) -> int:
    """Those of the file that is replaced, else those of any new file; mkstemp's are private."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
