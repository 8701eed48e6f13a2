"""Projects for hls4ml, their C simulation, and what is refused before any work is done."""

from __future__ import annotations

import importlib.util
import json
import shutil

import brevitas.nn as qnn
import pytest
import torch
from torch import nn

from brevitas_ftprop import quantize_for_finn
from brevitas_ftprop.export import ExportError, check_deployable
from brevitas_ftprop.export.hls4ml import export_hls4ml, hls4ml_flow, project
from brevitas_ftprop.models import QuantResNet18
from examples.others import of_torchvision
from examples.others.catalogue import settled

IMAGE = torch.zeros(1, 6)
# Networks of the fixtures; the convolutional ones take up to a minute each to compile.
QUICK = ("dense",)
SLOW = (
    "sign", "int2", "staircase3", "staircase5", "int4", "pool first", "free scales", "residual",
    "map", "small", "signal", "joined",
)  # fmt: skip


def copied_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_exact(name, network, tmp_path, **options):
    model, shape = network(name)
    model.train()
    before = copied_state(model)
    batch = torch.randn(10, *shape, generator=torch.Generator().manual_seed(4))
    report = export_hls4ml(
        model, torch.zeros(1, *shape), tmp_path / "project", batch=batch, **options
    )
    assert report.ok, f"\n{report}"
    assert report.excused == 0
    assert report.same_class == report.images >= 20
    assert all(layer.compared > 0 for layer in report.layers)
    assert all(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    return report


@pytest.mark.simulated
@pytest.mark.parametrize("name", QUICK)
def test_the_simulation_gives_the_integers_of_pytorch(name, network, tmp_path):
    report = assert_exact(name, network, tmp_path)
    folder = tmp_path / "project"
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    assert json.loads((folder / "report.json").read_text()) == report.as_dict()
    assert (folder / "model.onnx").is_file()
    assert not list(folder.rglob("*.so"))
    # Nothing refers to the folder in which the project was built.
    config = (folder / "hls4ml_config.yml").read_text()
    assert f"OutputDir: {folder}\n" in config
    assert "-O3" in (folder / "build_lib.sh").read_text()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_hls4ml(network(name)[0], IMAGE, folder)


@pytest.mark.slow
@pytest.mark.simulated
@pytest.mark.parametrize("name", SLOW)
def test_the_simulation_of_convolutional_networks_gives_the_integers_of_pytorch(
    name, network, tmp_path
):
    report = assert_exact(name, network, tmp_path)
    assert report.takes_integers_of == ("image.act_quant" if name == "small" else None)
    if name not in ("free scales", "residual"):
        assert report.max_difference == 0


def our_resnet18() -> nn.Module:
    return QuantResNet18(10, "cifar", base=4, act="int2", form="hardware", weight_bits=4)


def torchvision_resnet18() -> nn.Module:
    images = torch.randn(8, 3, 64, 64)
    model = settled(of_torchvision.resnet18(), images).eval()
    return quantize_for_finn(model, images, power_of_two=True, dynamo=False)[0]


def resnet18_by_brevitas() -> nn.Module:
    model = settled(of_torchvision.resnet18(), torch.randn(4, 3, 64, 64)).eval()
    return of_torchvision.quantized_by_brevitas(model)


# With the size of their images, and the quantizer whose integers they take.
RESNETS = {
    "ours": (our_resnet18, 32, None),
    "torchvision": (torchvision_resnet18, 64, None),
    "torchvision by Brevitas": (resnet18_by_brevitas, 64, "x_quant.act_quant"),
}


@pytest.mark.slow
@pytest.mark.simulated
@pytest.mark.parametrize("name", RESNETS)
def test_no_integer_of_a_narrow_resnet18_differs(name, tmp_path):
    torch.manual_seed(0)
    build, size, takes_integers_of = RESNETS[name]
    model = settled(build(), torch.randn(4, 3, size, size)).eval()
    example = torch.zeros(1, 3, size, size)
    assert check_deployable(model, example, "hls4ml", dynamo=False).ok
    report = export_hls4ml(model, example, tmp_path / "project")
    assert report.ok, f"\n{report}"
    # Brevitas' scales are no powers of two, so that PyTorch rounds sums of branches.
    assert report.excused == 0 or (takes_integers_of and report.excused < 100)
    assert report.same_class == report.images
    assert report.takes_integers_of == takes_integers_of


@pytest.mark.slow
@pytest.mark.simulated
@pytest.mark.parametrize("name", ["sign", "map", "joined"])
def test_parallel_data_and_shared_multipliers_give_the_same(name, network, tmp_path):
    options = {"io_type": "io_parallel", "strategy": "resource", "reuse_factor": 2}
    assert_exact(name, network, tmp_path, **options)


@pytest.mark.simulated
@pytest.mark.slow
def test_a_factor_with_a_bit_too_few_is_found(network, tmp_path, monkeypatch):
    exact = project.layer_precisions

    def narrower(graph, **options):
        found = exact(graph, **options)
        for precision in found.values():
            if precision.get("result") == "auto":
                kind, width, integer = precision["scale"].replace("<", ",").rstrip(">").split(",")
                if int(width) > 2:
                    precision["scale"] = f"{kind}<{int(width) - 2},{integer}>"
        return found

    monkeypatch.setattr(project, "layer_precisions", narrower)
    model, shape = network("dense")
    report = export_hls4ml(model, torch.zeros(1, *shape), tmp_path / "project")
    assert not report.ok
    assert report.mismatches > 10
    assert report.layers[0].mismatches == 0


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("hls4ml", r"^hls4ml is not installed: pip install 'brevitas-ftprop\[hls4ml\]'$"),
        ("g++", r"g\+\+, .* is not installed: apt-get install g\+\+$"),
    ],
)
def test_a_missing_tool_is_named_with_its_install_line(
    missing, message, network, tmp_path, monkeypatch
):
    find, which = importlib.util.find_spec, shutil.which
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name, *rest: (None if missing == "hls4ml" else object())
        if name == "hls4ml" else find(name, *rest),
    )  # fmt: skip
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else which(name))
    with pytest.raises(ExportError, match=message):
        export_hls4ml(network("dense")[0], IMAGE, tmp_path / "project")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch": torch.zeros(2, 7)}, ValueError, r"the batch has shape \(2, 7\)"),
        ({"batch": torch.zeros(2, 6).double()}, TypeError, "batch must be float32"),
        ({"batch": torch.full((2, 6), torch.nan)}, ValueError, "batch holds values that are not"),
        ({"clock_ns": -1}, ValueError, "clock_ns must be a positive number"),
        ({"clock_ns": float("nan")}, ValueError, "clock_ns must be a positive number"),
        ({"io_type": "stream"}, ValueError, "io_type must be one of io_stream, io_parallel"),
        ({"strategy": "fast"}, ValueError, "strategy must be one of latency, resource"),
        ({"reuse_factor": 0}, ValueError, "reuse_factor must be a positive integer"),
    ],
)
def test_bad_options_are_refused(options, error, message, network, tmp_path):
    with pytest.raises(error, match=message):
        export_hls4ml(network("dense")[0], IMAGE, tmp_path / "project", **options)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused_by_name(network, tmp_path):
    model, _ = network("dense")
    with torch.no_grad():
        model[1].weight[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"1\.weight holds values that are not finite"):
        export_hls4ml(model, IMAGE, tmp_path / "project")


def test_a_model_that_does_not_fit_leaves_no_project(tmp_path, monkeypatch):
    monkeypatch.setattr(hls4ml_flow, "require_tools", lambda: None)
    model = nn.Sequential(qnn.QuantLinear(6, 2, bias=False)).eval()
    with pytest.raises(ExportError, match=r"^0: reads the image, which is not quantized"):
        export_hls4ml(model, IMAGE, tmp_path / "project")
    assert not (tmp_path / "project").exists()
