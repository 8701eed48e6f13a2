"""Networks of others through all that the package does with them."""

from __future__ import annotations

import importlib.util
from concurrent.futures import Future
from contextlib import AbstractContextManager
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


class Pool(AbstractContextManager):
    """Gives what it was made with, and counts how often it was asked."""

    def __init__(self, row):
        self.row, self.asked = row, 0

    def submit(self, *work):
        self.asked += 1
        future = Future()
        future.set_result(self.row)
        return future

    def __exit__(self, *error):
        return None


def test_the_command_writes_each_row_once_unless_it_failed_and_prints_the_table(
    tmp_path, capsys, monkeypatch
):
    row = {"origin": "them", "network": "net", "swapped": 2, "same bits": True, "step": False}
    part = {"different": 0, "integers": 12, "excused": 1, "seconds": 2.6, "ok": True}
    row |= {"QONNX": part, "QCDQ": part | {"different": 3, "ok": False}}
    row |= {"FINN": part | {"software": ["Transpose"]}, "hls4ml": {"error": "ExportError: no"}}
    pool = Pool(row)
    monkeypatch.setattr(definitions.cluster, "pool", lambda *places: pool)
    command = ["--out", str(tmp_path), "--only", "resnet-8"]
    assert definitions.main(command) == 1
    assert (
        "| them | net | 2 | yes | **no** | 0 of 12, 1 excused (3 s) | 3 of 12, not verified, "
        "1 excused (3 s) | 0 of 12, 1 excused, software: Transpose (3 s) "
        "| failed: ExportError: no |"
    ) in capsys.readouterr().out
    pool.row = row | {"hls4ml": {"refused": "sum"}, "QCDQ": part}
    assert definitions.main(command) == 0
    assert "| refused: `sum` |" in capsys.readouterr().out
    assert definitions.main(command) == 0
    assert pool.asked == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "nothing"], "no definition has nothing in its name"),
        (["--jobs", "0"], "--jobs has to be 1 or more, not 0"),
        (["--cluster", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["--cluster", "foo"], "--cluster is 'foo', but has to be host:port, auto or local"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(options, message, tmp_path, capsys):
    if "--cluster" in options:
        pytest.importorskip("ray", reason="needs the extra 'cluster'")
    with pytest.raises(SystemExit) as ended:
        definitions.main(["--out", str(tmp_path), *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_names_are_files_and_images_are_seen_as_the_accelerator_sees_them():
    assert len(NARROW) == len(definitions.NARROW)
    for each in (*definitions.NARROW, *definitions.FULL):
        assert not set(each.key) & set(" /")
        if not each.is_full:
            entering = each.entering(2)
            assert entering.shape == (2, *each.shape)
            assert each.seen(entering).shape == entering.shape
