"""What cannot become an accelerator is refused with one clear sentence, and nothing is lost."""

from __future__ import annotations

import sys

import brevitas.nn as qnn
import pytest
import torch
from torch import nn

from brevitas_ftprop.export import ExportError, check_deployable
from brevitas_ftprop.export.finn import export_finn

EXAMPLE = torch.randn(1, 3, 8, 8)
PIXELS = {"images": "uint8", "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


@pytest.fixture
def network(one_block) -> nn.Module:
    for _ in range(3):
        one_block(torch.randn(8, 3, 8, 8))
    return one_block.eval()


@pytest.mark.parametrize(
    ("example", "options", "error", "reason"),
    [
        (torch.randn(2, 3, 8, 8), {}, ValueError, "one image at a time"),
        (
            EXAMPLE,
            {"batch": torch.randn(2, 3, 8, 9)},
            ValueError,
            r"batch has shape \(2, 3, 8, 9\)",
        ),
        (EXAMPLE, {"batch": torch.full((1, 3, 8, 8), torch.nan)}, ValueError, "not finite"),
        (EXAMPLE, {"batch": torch.zeros(1, 3, 8, 8).double()}, TypeError, "float32"),
        (
            EXAMPLE,
            {"images": "uint16"},
            ValueError,
            "images must be one of float, uint8, .*, BIPOLAR, BINARY, TERNARY, INT2, .*'uint16'",
        ),
        (EXAMPLE, {"images": 8}, ValueError, "images must be one of float, .* not 8"),
        (EXAMPLE, {"images": "int4", "pixels": "x"}, ValueError, "are of uint8 images"),
        (
            EXAMPLE,
            {"images": "int4", "batch": 8 * torch.ones(EXAMPLE.shape)},
            ValueError,
            "-8 to 7",
        ),
        (EXAMPLE, {"images": "bipolar", "batch": 0 * EXAMPLE}, ValueError, "numbers -1 and 1"),
        (EXAMPLE, {"images": "uint8", "pixels": "x/256"}, ValueError, r"x/127\.5-1, not 'x/256'"),
        (EXAMPLE, {"images": "uint8", "mean": (0.5,) * 3}, ValueError, "told together"),
        (
            EXAMPLE,
            PIXELS | {"mean": (127.0,) * 3},
            ValueError,
            r'127 is that of values outside 0…1, where x/255 lies: pass pixels="x" if',
        ),
        (
            EXAMPLE,
            PIXELS | {"pixels": "x", "mean": (-0.5, 0, 0)},
            ValueError,
            r'-0\.5 is that of values outside 0…255, .*pixels="x/127\.5-1"',
        ),
        (EXAMPLE, PIXELS | {"mean": (300.0,) * 3}, ValueError, r"300 .*where x/255 lies$"),
        (EXAMPLE, {"result": "top5"}, ValueError, "result must be one of logits, integers, class"),
        (EXAMPLE, PIXELS | {"batch": EXAMPLE}, ValueError, "integers from 0 to 255"),
        (EXAMPLE, {"images": "uint8"}, ValueError, "needs the mean and std"),
        (EXAMPLE, PIXELS | {"mean": (0.5,)}, ValueError, "each of 3 channels .* not 1 and 3"),
        (
            EXAMPLE,
            PIXELS | {"std": (0.2, 0.2, 0.0)},
            ValueError,
            r"std must be positive .* 0.2, 0\.0",
        ),
        (EXAMPLE, PIXELS | {"mean": 0.5}, ValueError, "mean must be finite numbers, one a channel"),
        (EXAMPLE, PIXELS | {"mean": (torch.nan,) * 3}, ValueError, "mean must be finite numbers"),
        (EXAMPLE, PIXELS | {"images": "float"}, ValueError, "mean and std are of uint8 images"),
        (EXAMPLE, PIXELS | {"batch": torch.zeros(0, 3, 8, 8)}, ValueError, "one image or more"),
        (
            EXAMPLE,
            PIXELS | {"batch": torch.zeros(1, 3, 8, 8, dtype=torch.complex64)},
            ValueError,
            "integers from 0 to 255",
        ),
        (EXAMPLE, {"target_fps": 0}, ValueError, "target_fps must be a positive number"),
        (EXAMPLE, {"target_fps": "1000"}, ValueError, "target_fps must be a positive number"),
        (EXAMPLE, {"clock_ns": -1.0}, ValueError, "clock_ns must be a positive number"),
        (EXAMPLE, {"clock_ns": torch.inf}, ValueError, "clock_ns must be a positive number"),
        (EXAMPLE, {"fpga_part": "Pynq-Z1"}, ValueError, "named as Vivado does.* not 'Pynq-Z1'"),
        (EXAMPLE, {"fpga_part": None}, ValueError, "named as Vivado does.* not None"),
    ],
)
def test_an_input_or_option_that_cannot_be_used_is_refused(
    network, tmp_path, example, options, error, reason
):
    with pytest.raises(error, match=reason):
        export_finn(network, example, tmp_path / "out", progress=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named_with_its_install_line(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "finn", None)
    monkeypatch.setitem(sys.modules, "finn.xsi", None)
    with pytest.raises(ImportError, match=r"pip install 'brevitas-ftprop\[finn\]'"):
        export_finn(network, EXAMPLE, tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("layer", "name"), [(2, "weight"), (2, "running_mean"), (1, "weight")])
def test_a_model_that_is_not_finite_is_refused(network, tmp_path, layer, name):
    with torch.no_grad():
        getattr(network[layer], name)[0] = torch.inf
    with pytest.raises(ValueError, match=rf"the model's {layer}\.{name} holds values that are not"):
        export_finn(network, EXAMPLE, tmp_path / "out", dynamo=False, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_returns_indices_is_told_to_return_logits(network, tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")

    class Classes(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x).flatten(1).argmax(1)

    with pytest.raises(ExportError, match=r"returns torch\.int64.*leave argmax and the like out"):
        export_finn(Classes().eval(), EXAMPLE, tmp_path / "out", dynamo=False, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_without_hardware_is_named(network, tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    model = nn.Sequential(*network, nn.Sigmoid())
    with pytest.raises(ExportError, match=r"^\d+: the operator Sigmoid\..* Fix: build the network"):
        export_finn(model, EXAMPLE, tmp_path / "out", dynamo=False, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "shape", "result", "reason"),
    [
        (lambda: conv(), (1, 3, 8, 8), "class", r"shape \(1, 2, 6, 6\): flatten it"),
        (lambda: solid(), (1, 2, 4, 4, 4), "logits", "Conv of 3 spatial dimensions.*2-D"),
    ],
    ids=["class of a map", "three dimensions"],
)
def test_what_the_check_refuses_is_refused_in_its_words(make, shape, result, reason, tmp_path):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    model, example = make(), torch.randn(shape)
    model(example)
    options = {"dynamo": False, "result": result}
    with pytest.raises(ExportError, match=reason) as caught:
        export_finn(model.eval(), example, tmp_path / "out", progress=False, **options)
    assert list(tmp_path.iterdir()) == []
    first = check_deployable(model, example, **options).errors[0]
    assert f"{first.layer}: {first.message}. {first.why} Fix: {first.fix}" in str(caught.value)


def conv() -> nn.Module:
    return nn.Sequential(qnn.QuantIdentity(), qnn.QuantConv2d(3, 2, 3, bias=False))


def solid() -> nn.Module:
    return nn.Sequential(qnn.QuantIdentity(), qnn.QuantConv3d(2, 2, 3, bias=False))


def test_a_step_of_finn_that_fails_is_named(network, tmp_path, monkeypatch):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn import flow_steps

    def fails(model, io, config):
        raise AssertionError("inside FINN")

    monkeypatch.setitem(flow_steps.STEPS, "streamlined", fails)
    with pytest.raises(ExportError, match="step streamlined failed: AssertionError: inside FINN"):
        export_finn(network, EXAMPLE, tmp_path / "out", dynamo=False, progress=False)


def test_an_interrupted_run_leaves_no_output_and_the_next_one_succeeds(
    network, tmp_path, monkeypatch
):
    pytest.importorskip("finn", reason="needs the extra 'finn'")
    from brevitas_ftprop.export.finn import flow_steps

    def interrupts(model, io, config):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(flow_steps.STEPS, "hardware", interrupts)
        with pytest.raises(KeyboardInterrupt):
            export_finn(network, EXAMPLE, tmp_path / "out", dynamo=False, progress=False)
    assert not (tmp_path / "out").exists()
    report = export_finn(network, EXAMPLE, tmp_path / "out", dynamo=False, progress=False)
    assert report.ok
