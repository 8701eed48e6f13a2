"""Networks of others through all that the package does with them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("finn", reason="needs the extra 'finn'")

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "definitions.py"
spec = importlib.util.spec_from_file_location("definitions", SOURCE)
definitions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(definitions)
NARROW = {each.key: each for each in definitions.NARROW}


def check(row: dict) -> None:
    """Nothing differs, from the swap to the partition."""
    assert row["swapped"] > 0
    assert row["same bits"]
    assert row["step"]
    for part in ("QONNX", "QCDQ", "FINN"):
        assert row[part].get("ok"), row[part]
        assert row[part]["different"] == 0
        assert row[part]["integers"] > 0
    assert row["FINN"]["steps"] == 7
    assert row["FINN"]["software"] == []
    assert {"refused", "unsimulated"} & row["hls4ml"].keys() or row["hls4ml"]["ok"], row["hls4ml"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
def test_every_definition_goes_all_the_way(name, tmp_path):
    check(definitions.run(NARROW[name], tmp_path / name))


def test_the_command_writes_each_row_once_and_prints_the_table(tmp_path, capsys):
    row = {"origin": "them", "network": "net", "swapped": 2, "same bits": True, "step": False}
    part = {"different": 0, "integers": 12, "excused": 1, "seconds": 2.6}
    row |= {"QONNX": part, "QCDQ": {"error": "ExportError: no"}, "hls4ml": {"refused": "sum"}}
    row |= {"FINN": part | {"software": ["Transpose"]}}
    for each in NARROW.values():
        if "ResNet-8" in each.key:
            (tmp_path / f"{each.key}.json").write_text(json.dumps(row))
    assert definitions.main(["--out", str(tmp_path), "--only", "ResNet-8"]) == 0
    printed = capsys.readouterr().out
    assert (
        "| them | net | 2 | yes | **no** | 0 of 12, 1 excused (3 s) | failed: ExportError: no | "
        "0 of 12, 1 excused, software: Transpose (3 s) | refused: `sum` |"
    ) in printed
    with pytest.raises(SystemExit):
        definitions.main(["--out", str(tmp_path), "--only", "nothing"])
    assert "no definition has nothing in its name" in capsys.readouterr().err


def test_names_are_files_and_images_are_seen_as_the_accelerator_sees_them():
    assert len(NARROW) == len(definitions.NARROW)
    for each in (*definitions.NARROW, *definitions.FULL):
        assert not set(each.key) & set(" /")
        if not each.is_full:
            entering = each.entering(2)
            assert entering.shape == (2, *each.shape)
            assert each.seen(entering).shape == entering.shape
