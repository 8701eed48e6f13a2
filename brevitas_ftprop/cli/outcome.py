"""What a command ends with: output, exit code, and the one place where errors become sentences."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console, RenderableType

from ..export.errors import DamagedFileError, ExportError, MissingToolError, VerificationError

FINE, WANTING, WRONG_INPUT, MISSING, INTERRUPTED = 0, 1, 2, 3, 130
# The first that fits; anything else is a programming error and shows its traceback.
EXIT_CODES: dict[type[Exception], int] = {
    MissingToolError: MISSING,
    ImportError: MISSING,
    DamagedFileError: WRONG_INPUT,
    ExportError: WANTING,
    VerificationError: WANTING,
    TypeError: WRONG_INPUT,
    ValueError: WRONG_INPUT,
    OSError: WRONG_INPUT,
    MemoryError: WRONG_INPUT,
}
# What the Python functions' messages call by other names than the command line does.
NAMES = {
    "overwrite=True": "--overwrite",
    "dynamo=False": "--no-dynamo",
    'images="uint8"': "--images uint8",
    'images="float"': "--images float",
    'pixels="': '--pixels "',
    "check_deployable": "brevitas-ftprop check",
    "export_qonnx": "brevitas-ftprop export qonnx",
    "export_qcdq": "brevitas-ftprop export qcdq",
    "example_input": "--input-shape",
}
# Above what is found of a model without a checkpoint.
UNTRAINED = "untrained: no checkpoint was given, the weights are those that the model's code gives"
# Tables of reports are this wide where there is no terminal.
WIDTH = 120


Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        ok: whether nothing was found wanting.
        data: what ``--json`` prints, in plain types; where ``untrained`` is true, what is printed
            without it begins with that.
        shown: what is printed without it; reports as plain text.
    """

    ok: bool
    data: Mapping[str, Any]
    shown: RenderableType


def finish(work: Callable[[], Outcome], *, as_json: bool) -> NoReturn:
    """Do a command's work, print what it found, and exit."""
    outcome = attempt(work, as_json=as_json)
    if as_json:
        _print_json({"ok": outcome.ok, **outcome.data})
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
        if outcome.data.get("untrained"):
            console.print(UNTRAINED, style="yellow", highlight=False, soft_wrap=True)
        console.print(outcome.shown, markup=False, highlight=False, soft_wrap=_is_text(outcome))
    raise typer.Exit(FINE if outcome.ok else WANTING)


def attempt(work: Callable[[], Result], *, as_json: bool = False) -> Result:
    """Do some work whose errors become a sentence and an exit code.

    Meanwhile everything that is printed, by libraries and native code too, goes to stderr.
    """
    try:
        with _stdout_as_stderr():
            return work()
    except KeyboardInterrupt:
        note("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except tuple(EXIT_CODES) as error:
        if os.environ.get("BREVITAS_FTPROP_TRACEBACK"):
            raise
        code = next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
        message = _sentence(error)
        if as_json:
            _print_json({"ok": False, "error": message, "exit_code": code})
        note(f"error: {message}")
        raise typer.Exit(code) from None


def note(message: str) -> None:
    """Tell the user something on stderr."""
    print(message, file=sys.stderr, flush=True)


def _is_text(outcome: Outcome) -> bool:
    """Whether lines are left as they are: a report's columns survive a narrow terminal."""
    return isinstance(outcome.shown, str)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    message = str(error) or type(error).__name__
    for python, option in NAMES.items():
        message = message.replace(python, option)
    return message


def _print_json(data: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(_strict(data), indent=2, allow_nan=False))


def _strict(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_strict(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    # numpy's and torch's scalars, and paths.
    return _strict(value.item()) if hasattr(value, "item") else str(value)


@contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    # What torch and Brevitas warn of is none of the user's doing.
    warnings.filterwarnings("ignore", module=r"(torch|brevitas)\.")
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
