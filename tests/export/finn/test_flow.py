"""From models to dataflow partitions that compute what PyTorch computes, step by step."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import Int8WeightPerTensorFixedPoint
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import nn

from brevitas_ftprop.export import export_qonnx
from brevitas_ftprop.export.finn import export_finn
from tests.export.deployable.architectures import settle

pytest.importorskip("finn", reason="needs the extra 'finn'")

STEPS = ["qonnx", "forms", "finn", "streamlined", "hardware", "partition", "folded"]


@pytest.fixture(scope="module")
def convnet4(build_hardware):
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 16, 16), torch.randint(10, (16,))
    return build_hardware("convnet4", "staircase3", 2, "channel", images, labels)


@pytest.fixture(scope="module")
def complete(convnet4, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finn") / "out"
    report = export_finn(convnet4, torch.randn(1, 3, 16, 16), folder, dynamo=False, progress=False)
    return report, folder


def test_every_step_is_compared_and_none_differs(complete):
    report, _ = complete
    assert report.ok
    assert [step.name for step in report.steps] == STEPS
    for step in report.steps:
        assert step.images == 6
        assert (step.mismatches, step.wrong_outputs, step.excused) == (0, 0, 0)
        assert step.untracked == []
    by_name = {step.name: step for step in report.steps}
    # 8 bits at the input, then three times two.
    assert by_name["forms"].thresholds == by_name["finn"].thresholds == 255 + 3 * 3
    assert by_name["streamlined"].thresholds == 0
    # The same integers at each step behind the export.
    assert len({step.compared for step in report.steps[1:]}) == 1
    assert report.steps[1].compared == 6 * (3 * 16**2 + 4 * 9**2 + 6 * 4**2 + 8)


def test_all_but_the_documented_transpose_are_hardware_layers(complete):
    report, folder = complete
    by_name = {step.name: step for step in report.steps}
    (left,) = by_name["hardware"].software_nodes
    assert left.startswith("Transpose")
    assert "Transpose" in report.io["input"]
    assert by_name["partition"].software_nodes == by_name["folded"].software_nodes == []
    forms = {n.op_type.rpartition("_")[2] for n in onnx.load(folder / "7_folded.onnx").graph.node}
    assert forms == {"rtl", "hls"}


def test_the_folder_holds_what_is_promised(complete):
    report, folder = complete
    models = [f"{number}_{name}.onnx" for number, name in enumerate(STEPS, start=1)]
    others = ["build.yaml", "folding.json", "report.json", "report.md", "dataflow.png"]
    for name in (*models, *others):
        assert (folder / name).stat().st_size > 0
    told = json.loads((folder / "report.json").read_text())
    assert told["ok"]
    assert told["status"] == "complete"
    assert [step["file"] for step in told["steps"]] == models
    text = (folder / "report.md").read_text()
    for name in STEPS:
        assert f"| {name} |" in text
    assert "estimated_throughput_fps" in text
    assert str(report).endswith("complete")


def test_layers_and_totals_are_finns_estimates(complete):
    report, folder = complete
    estimate = json.loads((folder / "report" / "estimate_layer_resources.json").read_text())
    assert report.resources["LUT"] == estimate["total"]["LUT"]
    assert sum(layer["LUT"] for layer in report.layers.values()) == report.resources["LUT"]
    slowest = max(layer["cycles"] for layer in report.layers.values())
    assert report.performance["max_cycles"] == slowest
    # Target 1000 frames a second at 5 ns: 200 000 cycles.
    assert slowest <= 200_000
    assert report.performance["estimated_throughput_fps"] == pytest.approx(1e9 / 5 / slowest)


def test_a_layer_is_told_with_its_quantizer_and_folding(complete):
    report, folder = complete
    folding = json.loads((folder / "folding.json").read_text())
    for name, layer in report.layers.items():
        for kind in ("PE", "SIMD"):
            assert layer[kind] == folding.get(name, {}).get(kind, layer[kind])
    named = [layer["quantizer"] for layer in report.layers.values() if layer["quantizer"]]
    places = ("features.input", "features.act0", "features.act1", "classifier.act2")
    assert named == [f"{place}.act_quant" for place in places]
    assert "| features.act0.act_quant | 1 |" in (folder / "report.md").read_text()


def test_a_hardware_layer_is_told_with_the_models_layer_behind_it(complete):
    report, _ = complete
    behind = {name: layer["model layer"] for name, layer in report.layers.items()}
    of = {
        kind: [own for name, own in behind.items() if name.startswith(kind)]
        for kind in ("MVAU", "Thresholding", "FMPadding", "LabelSelect")
    }
    convolutions = ["features.conv0", "features.conv1"]
    assert of["MVAU"] == [*convolutions, "classifier.fc0", "classifier.fc1"]
    assert of["Thresholding"] == [
        "features.input", "features.act0", "features.act1", "classifier.act2"
    ]  # fmt: skip
    assert of["FMPadding"] == convolutions
    pools = [own for name, own in behind.items() if "Pool" in name]
    assert pools == ["features.pool0", "features.pool1"]


def test_finns_own_builder_goes_on_from_the_files_to_the_same_estimates(complete, monkeypatch):
    from finn.builder.build_dataflow import resolve_build_steps
    from finn.builder.build_dataflow_config import DataflowBuildConfig
    from qonnx.core.modelwrapper import ModelWrapper

    _, folder = complete
    monkeypatch.chdir(folder)
    config = DataflowBuildConfig.construct_from(Path("build.yaml"))
    steps = resolve_build_steps(config)
    assert [step.__name__ for step in steps] == config.steps
    model = ModelWrapper("7_folded.onnx")
    last = config.steps.index("step_generate_estimate_reports")
    for step in steps[: last + 1]:
        model = step(model, config)
    for name in ("layer_cycles", "layer_resources"):
        theirs, ours = (
            json.loads((place / f"estimate_{name}.json").read_text())
            for place in (config.get_report_directory(), folder / "report")
        )
        assert theirs == ours


def test_the_parent_of_the_partition_finds_it(complete):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp

    _, folder = complete
    parent = ModelWrapper(str(folder / "intermediate_models" / "dataflow_parent.onnx"))
    (node,) = parent.get_nodes_by_op_type("StreamingDataflowPartition")
    assert Path(getCustomOp(node).get_nodeattr("model")).is_file()


def test_pixels_in_and_a_class_out_leave_nothing_to_software(convnet4, tmp_path):
    report = export_finn(
        convnet4,
        torch.randn(1, 3, 16, 16),
        tmp_path / "out",
        images="uint8",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        result="class",
        batch=torch.randint(0, 256, (8, 3, 16, 16)),
        dynamo=False,
        progress=False,
    )
    assert report.ok, str(report)
    for step in report.steps[4:]:
        assert step.software_nodes == []
        assert step.same_class == step.images == 8
    graph = onnx.load(tmp_path / "out" / "7_folded.onnx").graph
    ends = graph.input[0], graph.output[0]
    shapes = [[d.dim_value for d in end.type.tensor_type.shape.dim] for end in ends]
    assert shapes == [[1, 16, 16, 3], [1, 1]]
    assert graph.node[-1].op_type.startswith("LabelSelect")


def features(first: list[nn.Module], last: nn.Module) -> nn.Module:
    """A network on 12 features that was trained on random ones."""
    torch.manual_seed(0)
    weights = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4}
    layers = [QuantLinear(12, 8, bias=False, **weights), nn.BatchNorm1d(8), QuantReLU(bit_width=2)]
    return settle(nn.Sequential(*first, *layers, last), (12,))


def small_conv() -> nn.Module:
    torch.manual_seed(0)
    options = {"bias": False, "weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 4}
    first = [QuantConv2d(3, 4, 3, padding=1, **options), nn.BatchNorm2d(4), QuantReLU(bit_width=2)]
    second = [QuantConv2d(4, 4, 3, **options), nn.BatchNorm2d(4), QuantReLU(bit_width=2)]
    last = QuantLinear(64, 5, **options)
    return settle(nn.Sequential(*first, nn.MaxPool2d(2), *second, nn.Flatten(), last), (3, 12, 12))


@pytest.mark.parametrize(
    ("make", "shape", "options", "entry", "first"),
    [
        (
            small_conv,
            (1, 3, 12, 12),
            {"images": "uint8", "pixels": "x/255"},
            "uint8 pixels (1, 12, 12, 3)",
            "FMPadding_rtl_0",
        ),
        (
            lambda: features([], QuantLinear(8, 5, bias=True, weight_bit_width=4)),
            (1, 12),
            {"images": "int8"},
            "int8 integers (1, 12)",
            "MVAU",
        ),
        (
            lambda: features(
                [nn.BatchNorm1d(12), QuantIdentity(bit_width=4)], QuantLinear(8, 5, bias=False)
            ),
            (1, 12),
            {"images": "BIPOLAR"},
            "bipolar integers (1, 12)",
            "Thresholding",
        ),
    ],
    ids=["p/255 into a convolution", "int8 features", "bipolar features"],
)
def test_integers_in_and_a_class_out(make, shape, options, entry, first, tmp_path):
    report = export_finn(
        make(),
        torch.rand(shape),
        tmp_path / "out",
        result="class",
        dynamo=False,
        progress=False,
        **options,
    )
    assert report.ok, str(report)
    assert report.mismatches == report.excused == 0
    assert all(step.same_class == step.images == 6 for step in report.steps)
    assert report.io == {"input": entry, "output": "class index"}
    assert next(iter(report.layers)).startswith(first)
    assert report.steps[4].software_nodes == []


def test_the_model_is_traced_once_for_its_file_and_once_for_the_rounding_bounds(
    one_block, tmp_path, monkeypatch
):
    one_block(torch.randn(8, 3, 8, 8))
    one_block.eval()
    traced, export = [], torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: traced.append(k) or export(*a, **k))
    example = torch.randn(1, 3, 8, 8)
    report = export_finn(one_block, example, tmp_path / "out", dynamo=False, progress=False)
    assert report.ok
    # The second leaves batch norms unfolded: what is folded is rounded, and no bound knows of it.
    assert ["training" in options for options in traced] == [False, True]


def test_the_first_file_is_what_the_qonnx_export_writes(convnet4, complete, tmp_path):
    _, folder = complete
    path = export_qonnx(convnet4, torch.randn(1, 3, 16, 16), tmp_path / "q.onnx", dynamo=False)
    assert (folder / "1_qonnx.onnx").read_bytes() == path.read_bytes()


def test_integers_out_times_the_reported_factor_are_the_logits(convnet4, tmp_path):
    example = torch.randn(1, 3, 16, 16)
    options = {"result": "integers", "batch": torch.randn(4, 3, 16, 16)}
    report = export_finn(
        convnet4, example, tmp_path / "out", dynamo=False, progress=False, **options
    )
    assert report.ok, str(report)
    assert all(step.same_class == step.images == 4 for step in report.steps)
    assert max(step.max_difference for step in report.steps) < 1e-6
    graph = ModelWrapper(str(tmp_path / "out" / "5_hardware.onnx"))
    assert graph.get_tensor_datatype(graph.graph.output[0].name).is_integer()
    assert graph.graph.node[-1].op_type == "MVAU"
    integers = execute_onnx(graph, {graph.graph.input[0].name: example.numpy()})
    (factor,) = (float(word) for word in report.io["output"].split() if word[0].isdigit())
    expected = convnet4(example).detach()
    (found,) = integers.values()
    torch.testing.assert_close(factor * torch.from_numpy(found), expected, rtol=0, atol=1e-6)


def test_the_model_is_as_it_was(convnet4, complete):
    assert not convnet4.training
    assert all(not module._forward_hooks for module in convnet4.modules())
    assert convnet4.features.act0.act_quant.export_handler is None


def test_a_folder_of_an_earlier_run_is_replaced_only_on_request(convnet4, complete):
    _, folder = complete
    before = (folder / "report.json").read_text()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_finn(convnet4, torch.randn(1, 3, 16, 16), folder, progress=False)
    assert (folder / "report.json").read_text() == before


@pytest.mark.slow
def test_progress_names_the_steps(convnet4, tmp_path, capfd):
    export_finn(convnet4, torch.randn(1, 3, 16, 16), tmp_path / "out", dynamo=False)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "done" in shown.err
