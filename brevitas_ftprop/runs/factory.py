"""Find what ``package.module:factory`` names, and build a model with it."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.nn import Module

from .finn_factory import PREFIX, quantizing

# Where code lies that a user's module calls: installed packages, Python's own, and this one.
NOT_THE_USERS = (
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("purelib", "platlib", "stdlib")),
    f"{Path(__file__).parents[1]}{os.sep}",
    "<frozen ",
)
REFERENCE = re.compile(r"([\w.]+):([\w.]+)")


def find_factory(reference: str) -> Any:
    """What a reference names: a factory, or a model.

    Args:
        reference: ``"package.module:factory"``; looked for in the current directory too. With
            ``finn:`` before it, the factory of that network quantized for FINN.

    Raises:
        ImportError: if the module needs a package that is not installed.
        TypeError, ValueError: for a reference that names nothing of the kind, or a module that
            fails (says where).
    """
    if reference.startswith(PREFIX):
        name = reference.removeprefix(PREFIX)
        found = find_factory(name)
        if isinstance(found, Module):
            return quantizing(lambda: found)
        return quantizing(
            lambda **options: build_model(found, options, reference=name, options_by="--arg")
        )
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(f"name the model as package.module:factory, not {reference!r}")
    return _attribute(imported(match[1]), match[2], reference)


def build_model(
    factory: Any, options: Mapping[str, Any], *, reference: str, options_by: str
) -> Module:
    """The model that a factory makes of its options; see ``called``.

    Raises:
        TypeError: for anything but a model.
    """
    model = called(factory, options, reference=reference, options_by=options_by)
    if not isinstance(model, Module):
        raise TypeError(f"{reference} gives a {type(model).__name__}, not a torch.nn.Module")
    return model


def called(factory: Any, options: Mapping[str, Any], *, reference: str, options_by: str) -> Any:
    """What a factory makes of its options.

    Args:
        factory: as ``find_factory`` found it.
        options: keyword arguments.
        reference: names the factory in messages.
        options_by: where the user has given the options.

    Raises:
        ImportError: if the factory needs a package that is not installed.
        ValueError: for options that it does not take, and a factory that fails (says where).
    """
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        pass
    else:
        try:
            signature.bind(**options)
        except TypeError as error:
            raise ValueError(f"{reference}{signature}: {error}; see {options_by}") from error
    try:
        return factory(**options)
    except ImportError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{reference} failed: {_told(error)}") from error


def imported(name: str) -> ModuleType:
    """A module, looked for in the current directory too.

    Raises:
        ImportError: if it needs a package that is not installed.
        ValueError: for a module that is not there, or fails (says where).
    """
    # As `python -m` does; a script has its own folder there instead.
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
            nearest = get_close_matches(part, own, n=1)
            meant = f"; did you mean {module.__name__}:{nearest[0]}?" if nearest else ""
            defined = f"; it defines {', '.join(own)}" if own else ""
            raise ValueError(f"{module.__name__} has no {attribute!r}{meant or defined}")
        found = getattr(found, part)
    if not (callable(found) or isinstance(found, Module)):
        raise TypeError(f"{reference} is a {type(found).__name__}, neither a factory nor a model")
    return found


def _told(error: BaseException) -> str:
    """The user's own mistake and its place, without the way there and what is called from it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(NOT_THE_USERS)]
    frame = (own or frames)[-1]
    where = f"{frame.filename}, line {frame.lineno}"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    # Behind the first line, torch lists all that a function takes.
    message = str(error).partition("\n")[0].removesuffix(", but expected one of:")
    return f"{type(error).__name__}: {message} ({where})"
