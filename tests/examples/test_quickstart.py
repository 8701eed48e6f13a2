"""The quickstart in its small form: everything it says it does, it did."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import onnx
import pytest
import torch

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "quickstart.py"

pytest.importorskip("lightning", reason="needs the extra 'examples'")

# CI runs the quickstart itself.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quickstart():
    spec = importlib.util.spec_from_file_location("quickstart", SOURCE)
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def test_its_fast_form_exports_what_it_trained_and_ends_with_a_table_and_a_figure(
    quickstart, tmp_path, capsys
):
    assert quickstart.main(["--fast", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for activation in quickstart.ACTIVATIONS:
        for rule in quickstart.RULES:
            for form in quickstart.EXPORTERS:
                name = f"{activation}_{rule}.{form}.onnx"
                onnx.checker.check_model(onnx.load(tmp_path / name))
                (row,) = (line for line in printed.splitlines() if name in line)
                accuracy, *_, integers, different, _ = numbers(row.replace(name, ""))
                assert 20 < accuracy < 100
                assert integers > 10_000
                assert different == 0
    figure = (tmp_path / "quickstart.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    assert len(figure) > 10_000


def test_both_rules_start_from_the_same_weights_and_forward_alike(quickstart):
    models = []
    for rule in quickstart.RULES:
        torch.manual_seed(0)
        models.append(quickstart.build_model("sign", rule))
    one, other = models
    for key, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0)
    batch = torch.rand(8, 1, 16, 16)
    torch.testing.assert_close(one(batch), other(batch), rtol=0, atol=0)


def test_its_digits_are_real_and_its_two_parts_share_none(quickstart):
    train, test = quickstart.digits()
    assert len(train) == 797
    assert len(test) == 1000
    images = torch.cat([part.tensors[0] for part in (train, test)])
    assert images.shape[1:] == (1, 16, 16)
    assert images.min() == 0
    assert images.max() <= 1
    assert len(torch.unique(images.flatten(1), dim=0)) == 1797
