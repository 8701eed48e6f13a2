"""Examples are scripts beside each other: what one imports lies in its folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# The package of the training, and the networks that recipes of tests name.
sys.path[:0] = [str(HERE.parents[1] / "examples"), str(HERE / "training")]


@pytest.fixture
def own_module(tmp_path, monkeypatch) -> Iterator[Path]:
    """A user's module of rules and setters in the current directory, which nothing has imported."""
    from own_parts import RULES

    from brevitas_ftprop import rules
    from brevitas_ftprop.targets import setters

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "myrules.py"
    path.write_text(RULES)
    known = dict(rules.RULES), dict(setters.SETTERS)
    yield path
    sys.modules.pop("myrules", None)
    for registry, before in zip((rules.RULES, setters.SETTERS), known, strict=True):
        registry.clear()
        registry.update(before)
