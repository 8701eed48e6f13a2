"""Rules, target setters and networks of the user's own: their modules, and what those held."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path

OWN = re.compile(r"([\w.]+):(\w+)(\(.*\))?")


def import_parts(modules: Iterable[str]) -> dict[str, str]:
    """Import modules that register rules or target setters.

    Args:
        modules: names; looked for in the current directory too.

    Returns:
        For each the first 16 hexadecimal digits of the SHA-256 of its source; of a package, of all
        its Python files.

    Raises:
        ImportError: if a module needs a package that is not installed.
        ValueError: for one that is not there, fails (says where) or has no source.
    """
    return {name: _hash(name) for name in modules}


def own_part(spec: str) -> tuple[str, str | None]:
    """A rule or target setter by its spec, or by where it is.

    Args:
        spec: ``"name(param=value)"``, or ``"package.module:Class(param=value)"``.

    Returns:
        The first of these forms, and the module that has to be imported for it.

    Raises:
        ImportError: if the module needs a package that is not installed.
        TypeError, ValueError: for a module that fails or does not define the class, and for what is
            not registered.

    >>> own_part("ramp")
    ('ramp', None)
    >>> own_part("brevitas_ftprop.rules.hinge:TruncatedHinge(scale=2)")
    ('truncated_hinge(scale=2)', 'brevitas_ftprop.rules.hinge')
    """
    match = OWN.fullmatch(spec)
    if match is None:
        return spec, None
    from ..rules import RULES
    from ..targets import SETTERS
    from .factory import find_factory

    module, attribute, parameters = match.groups()
    found = find_factory(f"{module}:{attribute}")
    name = getattr(found, "name", "")
    if found not in (RULES.get(name), SETTERS.get(name)):
        raise ValueError(
            f"{module}:{attribute} is no registered rule or target setter: decorate its class with "
            "@register or @register_setter"
        )
    return f"{name}{parameters or ''}", module


def network_source(reference: str) -> str | None:
    """Hash, as of ``import_parts``, of the module that defines a network; None for one by name.

    Args:
        reference: see ``build_named``.

    Raises:
        ImportError, TypeError, ValueError: as ``find_factory`` does.

    >>> network_source("convnet4") is network_source("brevitas:cnv_1w1a") is None
    True
    """
    module = _defining_module(reference)
    return None if module is None else _hash(module)


def check_source(reference: str, recorded: str | None, *, instead: str) -> None:
    """Raise if the module that defines a network is not the one that a run recorded.

    Args:
        reference: of the network.
        recorded: what ``network_source`` gave; None if nothing was recorded.
        instead: what else the user can do than to bring that module back.

    Raises:
        ImportError, TypeError, ValueError: if it is another, and as ``find_factory`` does.
    """
    if recorded is None:
        return
    module = _defining_module(reference)
    found = None if module is None else _hash(module)
    if found != recorded:
        file = reference if module is None else sys.modules[module].__file__
        raise ValueError(
            f"{reference} is not the network that the run trained: the hash of {file} is {found}, "
            f"and was {recorded}; bring that file back, or {instead}"
        )


def _defining_module(reference: str) -> str | None:
    from .factory import find_factory
    from .finn_factory import PREFIX
    from .named_models import OTHERS

    reference = reference.removeprefix(PREFIX)
    if ":" not in reference or OTHERS.fullmatch(reference):
        return None
    found = find_factory(reference)
    # Anything else has the module of its class.
    is_definition = inspect.isfunction(found) or inspect.isclass(found)
    return found.__module__ if is_definition else reference.partition(":")[0]


def _hash(name: str) -> str:
    from .factory import imported

    module = imported(name)
    if module.__file__ is None:
        raise ValueError(f"{name} is a folder without __init__.py: name a module in it")
    path = Path(module.__file__)
    files = sorted(path.parent.rglob("*.py")) if hasattr(module, "__path__") else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
