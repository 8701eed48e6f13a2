"""Name the other exporter where that one can export a model, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from .errors import ExportError, MissingToolError

TORCHSCRIPT = "dynamo=False"


def built_or_remedied(build: Callable[[bool], ModelProto], *, dynamo: bool) -> ModelProto:
    """``build(dynamo)``; where the dynamo exporter fails, TorchScript is tried for the message.

    Raises:
        ExportError: of ``build(dynamo)``, with a remedy if ``build(False)`` succeeds.
    """
    try:
        return build(dynamo)
    except MissingToolError:
        raise
    except ExportError as error:
        if not dynamo or not _succeeds(build):
            raise
        remedied = ExportError(f"{error}; {TORCHSCRIPT} exports this model")
        remedied.remedy = TORCHSCRIPT
        raise remedied from error


def _succeeds(build: Callable[[bool], ModelProto]) -> bool:
    try:
        build(False)
    except ExportError:
        return False
    return True
