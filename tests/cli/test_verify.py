"""Files are verified with any form of their checkpoint; stdout holds the result only."""

from __future__ import annotations

import json

import onnx
import pytest

from tests.cli.commands import told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")


def test_json_on_stdout_is_one_object_whatever_the_model_prints(exported, folder):
    found = json.loads(exported.stdout)
    assert found["ok"]
    assert found["path"] == "tiny.onnx"
    assert found["verification"]["mismatches"] == 0
    assert found["verification"]["outputs"][0]["images"] == 2
    assert (folder / "tiny.onnx").is_file()
    for printed in ("from Python", "from native code", "verifying on 2 images"):
        assert printed in exported.stderr


@pytest.mark.parametrize("checkpoint", ["good.pt", "under_model.pt"])
def test_the_file_is_verified_with_each_form_of_its_checkpoint(run, exported, checkpoint):
    arguments = ("tiny.onnx", "cli_nets:tiny", "--checkpoint", checkpoint, "--images", "3")
    result = run("verify", *arguments)
    assert result.exit_code == 0
    assert "same class 4 of 4" in result.stdout
    assert "no differences" in result.stdout


def test_a_file_of_other_weights_is_a_difference(run, exported):
    result = run("verify", "tiny.onnx", "cli_nets:tiny", "--json", "--images", "2")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["ok"]
    assert found["first_difference"] is not None


@pytest.mark.parametrize(
    "name",
    ["good.pt", "small.pt", "no_state.pt", "script.pt", "empty.pt", "three.npy", "unnamed.onnx"],
)
def test_what_is_no_file_of_an_export_is_wrong_input_and_no_difference(run, folder, name):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([], "unnamed", [value], [value])
    onnx.save(onnx.helper.make_model(graph, ir_version=10), folder / "unnamed.onnx")
    result = run("verify", name, "cli_nets:tiny")
    assert result.exit_code == 2
    assert name in told(result)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("damaged.onnx", "cli_nets:tiny"), 2, "is not an ONNX file, or is damaged"),
        (("none.onnx", "cli_nets:tiny"), 2, "none.onnx does not exist"),
        (("tiny.onnx", "cli_nets:small"), 1, "exported from another architecture"),
        (("tiny.onnx", "cli_nets:tiny", "--batch", "three.npy"), 2, "N a multiple of 2"),
        (("tiny.onnx", "cli_nets:tiny", "--batch", "objects.npy"), 2, "no array of numbers"),
        (("tiny.onnx", "cli_nets:tiny", "--batch", "none.npy"), 2, "there is no batch none.npy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_verified_is_told(run, exported, arguments, code, words):
    result = run("verify", *arguments)
    assert words in told(result)
    assert result.exit_code == code
