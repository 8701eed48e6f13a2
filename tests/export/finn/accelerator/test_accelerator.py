"""Whole accelerators compute what PyTorch and FINN's Python models do, and say when they do not."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from brevitas_ftprop.export.finn.accelerator import bench, compilation, preparation


def test_a_network_gives_pytorchs_logits_in_every_frame(simulate, exported):
    folder, images, logits = exported
    report = simulate(folder, images, frames=5)
    assert report.ok, str(report)
    assert report.status == "done"
    np.testing.assert_array_equal(report.outputs.reshape(5, -1), logits[[0, 1, 2, 0, 1]])
    assert len(report.between_frames) == 4
    # Its convolution is in HLS and modelled; what it waits for is a few cycles an image.
    assert report.steady == pytest.approx(report.estimated_between_frames, rel=0.02)
    assert report.bottleneck.startswith("MVAU")
    finn = json.loads((folder / "report" / "estimate_network_performance.json").read_text())
    assert report.estimated_latency == finn["critical_path_cycles"]
    assert report.estimated_between_frames == finn["max_cycles"]
    assert 0 < report.latency < report.estimated_latency + 200
    assert (report.timeline.spent.sum(axis=2) == report.timeline.stride).all()
    spent = report.timeline.spent.sum(axis=0) / report.cycles
    shares = [(node.busy, node.starved, node.blocked) for node in report.nodes]
    # All but the last piece, which is not whole.
    np.testing.assert_allclose(spent, shares, atol=report.timeline.stride / report.cycles)
    assert report.frames_per_second == pytest.approx(1e9 / (5 * report.steady))
    assert set(report.modelled) == {n.name for n in report.nodes if n.op_type.endswith("_hls")}


def test_compilation_and_simulation_are_shown_as_they_go_on(simulate, exported, capfd):
    folder, images, _ = exported
    simulate(folder, images)
    assert capfd.readouterr() == ("", "")
    report = simulate(folder, images, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert re.search(r"simulating.*100%", shown.err)
    effort = sum(node.effort for node in report.nodes)
    assert 0 <= effort <= 1


def branch_of(report, producer: str = "fork") -> str:
    """Name of the FIFO before the sum."""
    ends = {(fifo.producer, fifo.consumer): fifo.name for fifo in report.fifos}
    return ends[producer, "sum"]


def test_a_residual_block_deadlocks_at_a_depth_of_2_and_is_told_where(simulate, block):
    model, images = block
    report = simulate(model, images)
    assert report.status == "deadlock"
    assert not report.ok
    assert not report.faults
    assert report.deadlock.endswith(
        f"{branch_of(report)} between fork and sum is full at its depth of 2, while sum waits for"
        f" {branch_of(report, 'act')} between act and sum, which is empty"
    )
    assert report.deadlock in str(report)
    # Long before the most cycles that it may take.
    assert report.cycles < report.estimated_latency


def test_a_residual_block_runs_once_its_fifos_are_sized_and_not_with_one_less(
    simulate, size, block
):
    model, images = block
    sizing = size(model, images)
    assert sizing.report.ok, str(sizing)
    free = simulate(model, images, fifo_depths=dict.fromkeys(sizing.depths, 1000))
    assert sizing.report.steady == free.steady
    branch = branch_of(free)
    assert {name for name, depth in sizing.depths.items() if depth > 2} == {branch}
    shallower = sizing.depths | {branch: sizing.depths[branch] - 1}
    report = simulate(model, images, fifo_depths=shallower)
    assert report.status == "deadlock" or report.steady > free.steady
    paused = simulate(model, images, fifo_depths=sizing.depths, frames=6, pauses=True)
    assert paused.ok, str(paused)
    np.testing.assert_array_equal(paused.outputs[:3], free.outputs)
    assert simulate(model, images, fifo_depths="auto").ok


def test_sized_depths_are_those_that_finns_builder_reads(size, simulate, exported, tmp_path):
    from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
    from finn.transformation.fpgadataflow.insert_fifo import InsertFIFO
    from finn.transformation.fpgadataflow.set_fifo_depths import ApplyFIFODepthsFromFile
    from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
    from finn.transformation.general import ApplyConfig
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp
    from qonnx.transformation.general import GiveUniqueNodeNames

    from brevitas_ftprop.export.finn.environment import finn_environment

    original, images, _ = exported
    folder = tmp_path / "sized"
    shutil.copytree(original, folder)
    sizing = size(folder, images, trials=0)
    sizing.write(folder)
    assert max(sizing.depths.values()) > 2
    with finn_environment():
        model = ModelWrapper(str(folder / "7_folded.onnx"))
        model = model.transform(ApplyConfig(str(folder / "folding.json")))
        model = model.transform(InsertDWC()).transform(InsertFIFO(create_shallow_fifos=True))
        model = model.transform(SpecializeLayers("xczu7ev-ffvc1156-2-e"))
        model = model.transform(GiveUniqueNodeNames())

        def depths():
            nodes = model.get_nodes_by_op_type("StreamingFIFO_rtl")
            return {node.name: getCustomOp(node).get_nodeattr("depth") for node in nodes}

        assert depths() == sizing.depths
        model = model.transform(ApplyFIFODepthsFromFile(folder / "fifo_depths.json"))
        assert depths() == sizing.depths
    again = simulate(folder, images)
    assert {fifo.name: fifo.depth for fifo in again.fifos} == sizing.depths


def test_a_wrong_threshold_in_a_memory_file_is_found_at_its_node(simulate, block, monkeypatch):
    build_network = preparation.build_network

    def tampered(model, folder, target, **options):
        network = build_network(model, folder, target, **options)
        (unit,) = (unit for unit in network.units if unit.name == "act")
        file = unit.part.folder / "dut_threshs_0_1.dat"
        first, *rest = file.read_text().split()
        file.write_text("\n".join([f"{int(first, 16) ^ 1:x}", *rest]) + "\n")
        return network

    monkeypatch.setattr(preparation, "build_network", tampered)
    report = simulate(*block, fifo_depths={branch_of(simulate(*block)): 40})
    assert not report.ok
    assert {fault.name for fault in report.faults} == {"act"}
    assert "act is at fault: first in frame 0" in str(report)


def test_two_swapped_streams_are_found_at_the_node_that_takes_them(
    simulate, random_values, graph, monkeypatch
):
    made = graph("INT4", (1, 2, 2, 4)).duplicate("fork", "image")
    made.threshold("act", "fork_0", np.zeros((4, 1)), "INT4", "INT4", form="hls")
    made.combine("Sub", "difference", "act", "fork_1", "INT5", inFIFODepths=[4, 4])
    model, images = made.build(), random_values("INT4", (2, 2, 2, 4), np.random.default_rng(0))
    assert simulate(model, images).ok
    described = bench.Bench._described

    def swapped(self, unit):
        if unit.name != "difference":
            return described(self, unit)
        kind, count, *left_and_right = described(self, unit).split(" ")
        left, right, rest = left_and_right[:4], left_and_right[4:8], left_and_right[8:]
        return " ".join([kind, count, *right, *left, *rest])

    monkeypatch.setattr(bench.Bench, "_described", swapped)
    report = simulate(model, images)
    assert [fault.name for fault in report.faults] == ["difference"]


def test_a_fifo_that_drops_a_word_is_found_by_its_name(
    simulate, random_values, graph, monkeypatch, tmp_path
):
    made = graph("INT4", (1, 4, 4, 2)).duplicate("fork", "image")
    made.threshold("act", "fork_0", np.zeros((2, 1)), "INT4", "INT4", form="hls")
    made.combine("Add", "sum", "act", "fork_1", "INT5", inFIFODepths=[4, 4])
    shutil.copytree(compilation.CPP, tmp_path / "cpp")
    fifo = tmp_path / "cpp" / "fifo.h"
    # Only what is held four deep, and only once.
    kept = "void push(const uint32_t* transaction) {\n"
    text = fifo.read_text()
    assert kept in text
    dropped = "if (depth_ == 4 && words_ == 1 && ++pushed_ == 5) return;\n"
    text = text.replace(kept, kept + dropped)
    text = text.replace("size_t words_, depth_;", "size_t words_, depth_, pushed_ = 0;")
    fifo.write_text(text)
    monkeypatch.setattr(compilation, "CPP", tmp_path / "cpp")
    images = random_values("INT4", (2, 4, 4, 2), np.random.default_rng(0))
    report = simulate(made.build(), images)
    assert not report.ok
    named = {fifo.name for fifo in report.fifos if fifo.consumer == "sum"}
    assert {fault.name for fault in report.faults} == named
    assert all((fault.frame, fault.transaction) >= (0, 4) for fault in report.faults)
