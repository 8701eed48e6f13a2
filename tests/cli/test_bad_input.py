"""Bad files, shapes and checkpoints end with 2 and one sentence, before memory is taken."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.cli.commands import FLAGS, SMALL, told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")

pytestmark = pytest.mark.heavy

TERABYTES = (10**6, 3, 1000, 1000)
HUGE = ("cli_nets:small", "--input-shape", "1000000000,4")


def changed(source, name, change):
    model = onnx.load(source)
    change(model.graph)
    onnx.save(model, name)
    return name


def quants(graph, kind="Quant"):
    nodes = [node for node in graph.node if node.op_type == kind]
    assert nodes
    return nodes


def without_attributes(*names):
    def change(graph):
        for node in quants(graph):
            kept = [a for a in node.attribute if a.name not in names]
            del node.attribute[:]
            node.attribute.extend(kept)

    return change


def with_computed_bits(graph):
    node = quants(graph)[0]
    computed = onnx.helper.make_node("Abs", [node.input[3]], ["computed_bits"])
    node.input[3] = "computed_bits"
    graph.node.insert(0, computed)


def with_batch(size):
    def change(graph):
        for value in (graph.input[0], graph.output[0]):
            dimension = value.type.tensor_type.shape.dim[0]
            dimension.Clear()
            if isinstance(size, str):
                dimension.dim_param = size
            elif size is not None:
                dimension.dim_value = size

    return change


def with_too_few_inputs(graph):
    del quants(graph)[0].input[3:]


FILES = {
    "no attributes": (without_attributes("signed", "narrow", "rounding_mode"), "does not say"),
    "no signedness": (without_attributes("signed"), "does not say its signed"),
    "no rounding": (without_attributes("rounding_mode"), "does not say its rounding_mode"),
    "computed bit width": (with_computed_bits, "computes its bit width"),
    "too few inputs": (with_too_few_inputs, "3 inputs instead of 4"),
    "symbolic batch": (with_batch("N"), "without a fixed size"),
    "unknown batch": (with_batch(None), "without a fixed size"),
    "negative batch": (with_batch(-1), "without a fixed size"),
    "a batch of 10⁹": (with_batch(10**9), "GiB"),
    "a batch of 2⁶²": (with_batch(2**62), "GiB"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_form_is_refused(run, exported, kind):
    change, words = FILES[kind]
    name = changed("tiny.onnx", f"{kind.replace(' ', '_')}.onnx", change)
    result = run("verify", name, "cli_nets:tiny", "--checkpoint", "good.pt", "--images", "2")
    assert words in told(result)
    assert result.exit_code == 2


@pytest.mark.parametrize("suffix", [".json", ".onnxtxt", ".txt", ".textproto", ""])
def test_a_files_ending_says_nothing_of_its_contents(run, exported, folder, suffix):
    shutil.copy("tiny.onnx", f"copied{suffix}")
    arguments = ("cli_nets:tiny", "--checkpoint", "wrapped.pt", "--images", "2")
    assert run("verify", f"copied{suffix}", *arguments).exit_code == 0
    Path(f"text{suffix}").write_text('{"irVersion": "8"}')
    for command in (("verify", f"text{suffix}", *arguments), ("simulate", f"text{suffix}")):
        result = run(*command)
        assert "is not an ONNX file, or is damaged" in told(result)
        assert result.exit_code == 2


CHECKPOINTS = {
    "integer keys": ({0: torch.zeros(2), 1: torch.zeros(2)}, "its keys are not all names, see 0"),
    "mixed keys": ({"1.weight": torch.zeros(4, 4), (1, 2): torch.zeros(2)}, "see (1, 2)"),
    "sparse": ({"1.weight": torch.eye(4).to_sparse()}, "1.weight of bad.pt is sparse"),
    "compressed": ({"1.weight": torch.eye(4).to_sparse_csr()}, "is sparse"),
    "meta": ({"1.weight": torch.zeros(4, 4, device="meta")}, "on the meta device"),
    "complex": ({"1.weight": torch.zeros(4, 4, dtype=torch.complex64)}, "is complex"),
    "numbers": ({"1.weight": 3, "3.weight": torch.zeros(2, 4)}, "no tensors 1.weight"),
    "lists": ({"1.weight": [1.0], "3.weight": torch.zeros(2, 4)}, "no tensors 1.weight"),
    "a scalar": (
        {"1.weight": torch.tensor(1.0), "3.weight": torch.zeros(2, 4)},
        "1.weight () instead of (4, 4)",
    ),
    "nested": ({"state_dict": {"model": {"a": {}}}}, "holds no state dict"),
    "a tensor": (torch.zeros(3), "holds no state dict"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_of_anything_but_plain_tensors_is_refused(run, folder, kind):
    content, words = CHECKPOINTS[kind]
    torch.save(content, "bad.pt")
    result = run(
        "export", "qcdq", *SMALL, "--checkpoint", "bad.pt", "--out", "refused.onnx", *FLAGS
    )
    assert words in told(result)
    assert result.exit_code == 2
    assert not list(folder.glob("*refused*"))


def header_only(path, shape, dtype="<f4"):
    with open(path, "wb") as file:
        described = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, described)
        file.write(bytes(64))


def sparse(path):
    """As long as its header says: holes take no place on the disk."""
    header_only(path, (10**7, 3, 100, 100))
    os.truncate(path, 4 * 3 * 10**11 + 10**6)


def archive(path):
    np.savez("archive.npz", np.zeros(4))
    shutil.move("archive.npz", path)


BATCHES = {
    "terabytes": (lambda path: header_only(path, TERABYTES), "no array of numbers"),
    "terabytes of zeros": (sparse, "GiB of memory: write fewer images"),
    "more than there can be": (lambda path: header_only(path, (2**62, 4)), "no array of numbers"),
    "negative": (lambda path: header_only(path, (-1, 4)), "no array of numbers"),
    "objects": (lambda path: header_only(path, (4, 4), "|O"), "no array of numbers"),
    "a number": (lambda path: np.save(path, np.float32(3)), "no batch of images"),
    "nothing": (lambda path: np.save(path, np.zeros((0, 4), np.float32)), "bad.npy"),
    "text": (lambda path: np.save(path, np.array(["a", "b"])), "no array of real numbers"),
    "complex": (lambda path: np.save(path, np.zeros((1, 4), complex)), "no array of real numbers"),
    "an archive": (archive, "no array of real numbers"),
    "empty": (lambda path: Path(path).write_bytes(b""), "no array of numbers"),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_a_batch_that_is_none_is_refused(run, folder, kind):
    write, words = BATCHES[kind]
    write("bad.npy")
    result = run(
        "export", "qcdq", *SMALL, "--untrained", "--batch", "bad.npy", "--out", "refused.onnx"
    )
    assert words in told(result)
    assert result.exit_code == 2
    assert not list(folder.glob("*refused*"))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i8", ">i2", "|u1", "|b1"])
def test_batches_of_every_kind_of_number_are_read(folder, tmp_path, dtype, order):
    from brevitas_ftprop.runs.images import read_batch

    values = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype=dtype, order=order)
    np.save(tmp_path / "batch.npy", values)
    assert np.array_equal(read_batch(tmp_path / "batch.npy").numpy(), values)


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "qcdq", *HUGE, "--untrained", "--out", "x.onnx"),
        ("export", "qcdq", *SMALL, "--untrained", "--images", "1000000000000", "--out", "x.onnx"),
        ("check", "cli_nets:small", "--input-shape", f"{2**62},4"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_random_images_that_nobody_can_have_meant_take_no_memory(run, folder, arguments):
    result = run(*arguments)
    assert "GiB" in told(result)
    assert result.exit_code == 2
    assert not (folder / "x.onnx").exists()


def test_a_model_that_cannot_run_on_the_files_images_is_told(run, exported):
    """The names of its quantizers are those of the file, but not its shapes."""
    result = run("verify", "tiny.onnx", "cli_nets:tiny", "--arg", "width=5", "--images", "2")
    assert result.exit_code in (1, 2)
    assert told(result)
