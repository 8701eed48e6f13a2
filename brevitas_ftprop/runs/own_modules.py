"""Rules and target setters of the user's own: modules that register them, and where they are."""

from __future__ import annotations

import hashlib
import re
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
