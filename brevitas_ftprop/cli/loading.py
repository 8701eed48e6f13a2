"""The model that a command names: built, converted, and with its checkpoint."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from ..convert import swap_quantizers
from ..export.checks import check_finite
from .checkpoint import load_checkpoint
from .factory import build_model, find_factory
from .outcome import note
from .own_modules import own_part

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
        rule: what to swap the activation quantizers to; see ``own_part``.
        checkpoint: see ``load_checkpoint``.

    Returns:
        The model in evaluation mode.

    Raises:
        ImportError: if the module needs a package that is not installed.
        TypeError, ValueError: for a reference, argument, rule or checkpoint that does not fit, code
            of the user's that fails (says where), or weights that are not finite.
        OSError: if the checkpoint cannot be read.
    """
    found = find_factory(reference)
    options = dict(map(_argument, arguments))
    if isinstance(found, Module):
        if options:
            raise ValueError(f"{reference} is a model already and takes no --arg")
        model = found
    else:
        torch.manual_seed(0)
        model = build_model(found, options, reference=reference, options_by="--arg")
    if rule is not None:
        spec, _ = own_part(rule)
        note(str(swap_quantizers(model, spec)).partition("\n")[0])
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    check_finite(model)
    return model.eval()


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
