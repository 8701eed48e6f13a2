"""A one-bit network costs no more than by FINN's own steps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("finn", reason="needs the extra 'finn'")

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "one_bit.py"


@pytest.fixture
def one_bit(monkeypatch):
    spec = importlib.util.spec_from_file_location("one_bit", SOURCE)
    module = importlib.util.module_from_spec(spec)
    # The processes find it by its name.
    monkeypatch.syspath_prepend(SOURCE.parent)
    monkeypatch.setitem(sys.modules, "one_bit", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tfc_1w1a", "cnv_1w1a"])
def test_estimates_are_at_most_those_of_finns_own_steps(one_bit, name, tmp_path, capsys):
    assert one_bit.main([name, "--out", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out.splitlines()[-3:]
    ours, own, _ = ([int(cell) for cell in row.split("|")[3:-1]] for row in table)
    assert all(mine <= theirs for mine, theirs in zip(ours, own, strict=True))


def test_an_unknown_network_is_named_before_anything_is_built(one_bit, tmp_path, capsys):
    with pytest.raises(SystemExit):
        one_bit.main(["nosuch", "--out", str(tmp_path / "out")])
    assert "unknown network nosuch; there are tfc_1w1a" in capsys.readouterr().err
