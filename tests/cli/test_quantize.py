"""A float network is quantized, and other commands take what was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.commands import told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")

FLOATING = ("cli_nets:floating", "--input-shape", "1,4", "--no-dynamo")


def test_a_quantized_network_is_checked_and_exported_by_what_the_command_tells(run, tmp_path):
    out = str(tmp_path / "quantized.pt")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).normal(size=(32, 4)))
    chosen = ("--act", "int2", "--power-of-two", "--arg", "features=8")
    batch = ("--calibrate", str(tmp_path / "images.npy"))
    result = run("quantize", *FLOATING, "--out", out, *chosen, *batch, "--json")
    assert result.exit_code == 0
    written = json.loads(result.stdout)
    names = [insertion["name"] for insertion in written["report"]["insertions"]]
    assert names == ["input_1_quant", "0", "1", "2"]
    assert written["model"] == "finn:cli_nets:floating"
    arguments = [word for argument in written["arguments"] for word in ("--arg", argument)]
    io = ("--input-shape", "1,4", "--no-dynamo", *arguments)
    checked = run("check", written["model"], out, *io)
    assert checked.stdout == "finn: no findings\n"
    exported = run(
        "export",
        "qonnx",
        written["model"],
        "--checkpoint",
        out,
        *io,
        "--out",
        str(tmp_path / "n.onnx"),
    )
    assert exported.exit_code == 0


def test_float_weights_are_loaded_and_the_next_command_is_told(run, tmp_path):
    out = tmp_path / "quantized.pt"
    result = run("quantize", *FLOATING, "--out", str(out), "--checkpoint", "floating.pt")
    assert result.exit_code == 0
    last = result.stdout.splitlines()[-1]
    assert last.startswith(f"brevitas-ftprop check finn:cli_nets:floating {out} --input-shape 1,4")
    expected = torch.load("floating.pt")
    assert torch.equal(torch.load(out)["0.weight"], expected["0.weight"])


def test_a_folder_of_images_gives_the_ranges_as_the_model_sees_them(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    seen = ((pixels / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2).astype(np.float32)
    np.save(tmp_path / "seen.npy", seen)
    network = ("cli_nets:floating_of_images", "--input-shape", "1,3,8,8", "--no-dynamo")
    numbers = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")
    for name, source, more in (("files", "photos", numbers), ("array", "seen.npy", ())):
        out = ("--out", str(tmp_path / f"{name}.pt"))
        result = run("quantize", *network, *out, "--calibrate", str(tmp_path / source), *more)
        assert result.exit_code == 0, result.stderr
    files, array = (torch.load(tmp_path / f"{name}.pt") for name in ("files", "array"))
    assert files.keys() == array.keys()
    for key, value in files.items():
        torch.testing.assert_close(value, array[key])
    untold = run(
        "quantize", *network, "--out", str(tmp_path / "x.pt"), "--calibrate", tmp_path / "photos"
    )
    assert untold.exit_code == 2
    assert "has to be told: --pixels x/255, or --mean" in told(untold)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--act", "int9"), "act must be one of"),
        (("--weight-bits", "0"), "weight_bits must be one of"),
        (("--calibrate", "three.npy"), "calibrate has shape"),
        (("--checkpoint", "small.pt"), "another model"),
    ],
)
def test_wrong_options_leave_no_file(run, tmp_path, arguments, message):
    out = tmp_path / "quantized.pt"
    result = run("quantize", *FLOATING, "--out", str(out), *arguments)
    assert result.exit_code == 2
    assert message in told(result)
    assert not out.exists()


def test_a_network_that_is_quantized_already_is_refused(run, tmp_path):
    arguments = ("cli_nets:small", "--input-shape", "1,4", "--out", str(tmp_path / "q.pt"))
    result = run("quantize", *arguments)
    assert result.exit_code == 2
    assert "is a quantizer already" in told(result)


def test_a_bare_name_is_one_of_torchvisions(run, tmp_path):
    result = run("quantize", "no_such_net", "--input-shape", "1,4", "--out", str(tmp_path / "q.pt"))
    assert result.exit_code == 2
    assert "torchvision.models has no 'no_such_net'" in told(result)
    assert not list(Path(tmp_path).iterdir())
