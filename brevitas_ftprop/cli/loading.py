"""Find a model by ``package.module:factory``, build it, and load its checkpoint."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn import Module

from ..convert import swap_quantizers
from ..export.checks import check_finite
from .checkpoint import load_checkpoint
from .outcome import note

__all__ = ["load_model"]

REFERENCE = re.compile(r"([\w.]+):([\w.]+)")
# Text that needs no quotes: names, paths, versions.
WORD = re.compile(r"[A-Za-z_./~][\w./~-]*")


def load_model(
    reference: str,
    *,
    arguments: Sequence[str] = (),
    rule: str | None = None,
    checkpoint: Path | None = None,
) -> Module:
    """Build a model, convert its quantizers if asked to, and load its checkpoint.

    Factories run with torch's seed at 0, so that a model without a checkpoint is the same one in
    every run.

    Args:
        reference: ``"package.module:factory"``; looked for in the current directory too.
        arguments: of the factory, as ``"key=value"``.
        rule: what to swap the activation quantizers to.
        checkpoint: see ``load_checkpoint``.

    Returns:
        The model in evaluation mode.

    Raises:
        ImportError: if the module needs a package that is not installed.
        TypeError, ValueError: for a reference, argument, rule or checkpoint that does not fit, code
            of the user's that fails (says where), or weights that are not finite.
        OSError: if the checkpoint cannot be read.
    """
    name, attribute = _parsed(reference)
    found = _attribute(_imported(name), attribute, reference)
    options = dict(map(_argument, arguments))
    if isinstance(found, Module):
        if options:
            raise ValueError(f"{reference} is a model already and takes no --arg")
        model = found
    else:
        model = _built(found, options, reference)
    if rule is not None:
        note(str(swap_quantizers(model, rule)).partition("\n")[0])
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    check_finite(model)
    return model.eval()


def _parsed(reference: str) -> tuple[str, str]:
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(f"name the model as package.module:factory, not {reference!r}")
    return match[1], match[2]


def _imported(name: str) -> ModuleType:
    # As `python -m` does; a console script has its own folder there instead.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"there is no module {error.name!r}, neither in {os.getcwd()} nor installed"
            ) from error
        raise ImportError(f"{name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be imported: {_told(error)}") from error


def _attribute(module: ModuleType, attribute: str, reference: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            own = [
                name
                for name, value in vars(module).items()
                if not name.startswith("_")
                and (
                    isinstance(value, Module) or getattr(value, "__module__", "") == module.__name__
                )
            ]
            defined = f"; it defines {', '.join(own)}" if own else ""
            raise ValueError(f"{module.__name__} has no {attribute!r}{defined}")
        found = getattr(found, part)
    if not (callable(found) or isinstance(found, Module)):
        raise TypeError(f"{reference} is a {type(found).__name__}, neither a factory nor a model")
    return found


def _built(factory: Any, options: dict[str, Any], reference: str) -> Module:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        pass
    else:
        try:
            signature.bind(**options)
        except TypeError as error:
            raise ValueError(f"{reference}{signature}: {error}; see --arg") from error
    torch.manual_seed(0)
    try:
        model = factory(**options)
    except ImportError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{reference} failed: {_told(error)}") from error
    if not isinstance(model, Module):
        raise TypeError(f"{reference} gives a {type(model).__name__}, not a torch.nn.Module")
    return model


def _argument(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier()):
        raise ValueError(f"write --arg key=value, not {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        if WORD.fullmatch(value):
            return key, value
        raise ValueError(
            f"the value of --arg {text} is neither a Python literal nor a word"
        ) from None


def _told(error: BaseException) -> str:
    """The user's own mistake and its place, without the way there."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    where = f"{frame.filename}, line {frame.lineno}"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    return f"{type(error).__name__}: {error} ({where})"
