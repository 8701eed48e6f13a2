"""FINN's RTL gives what its executor and numpy give, and every change to it is found."""

from __future__ import annotations

import re
import tempfile

import numpy as np
import onnx
import pytest
import torch

from brevitas_ftprop.export import VerificationError
from brevitas_ftprop.export.finn.rtl import adapters, simulate_rtl
from brevitas_ftprop.export.finn.rtl.design import Adapter
from brevitas_ftprop.export.finn.rtl.node_values import execute

from .conftest import VERSAL, Chain, needs_verilator

RTL = ["pixels", "sign", "pad", "windows", "conv", "fourbit", "fc", "staircase", "pool_windows"]


@needs_verilator
def test_the_executor_gives_what_numpy_gives(simulated_chain):
    chain, model, _ = simulated_chain
    tensors = {node.name: node.output[0] for node in model.graph.node}
    truth = execute(model, chain.images[:, None], tensors.values())
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(truth[tensor][:, 0], chain.values[name], err_msg=name)


@needs_verilator
def test_every_rtl_node_gives_the_executors_values(simulated_chain):
    report = simulated_chain.report
    assert report.ok, str(report)
    assert [node.name for node in report.simulated] == RTL
    for node in report.simulated:
        expected = simulated_chain.chain.values[node.name]
        # One pass without pauses and one with them.
        assert node.values == 2 * expected.size
        assert node.transactions > 0


@needs_verilator
def test_thresholding_matrix_and_padding_nodes_take_the_cycles_that_finn_estimates(simulated_chain):
    for node in simulated_chain.report.simulated:
        if not node.op_type.startswith("Convolution"):
            assert node.cycles == node.estimated_cycles, node.name
        else:
            assert node.cycles == pytest.approx(node.estimated_cycles, rel=0.2)
        assert node.latency > 0


@needs_verilator
def test_hls_nodes_are_listed_with_the_reason(simulated_chain):
    (pool,) = (node for node in simulated_chain.report.nodes if not node.simulated)
    assert pool.name == "pool"
    assert "Vitis" in pool.reason
    assert pool.values == 0


@needs_verilator
def test_nodes_that_differ_only_in_their_parameters_share_a_build():
    images = np.random.default_rng(5).integers(-2, 2, (1, 8, 8, 4))
    chain = Chain("INT2", images)
    chain.threshold("first", np.zeros((4, 2)), "INT2", "INT2", bias=-1)
    chain.threshold("second", np.tile([-1, 1], (4, 1)), "INT2", "INT2", bias=-1)
    report = simulate_rtl(chain.build(), images)
    assert report.ok, str(report)
    assert report.builds == 1
    assert [node.cycles for node in report.nodes] == [256, 256]


@pytest.mark.slow
@needs_verilator
def test_finns_rtl_pads_signs_of_one_bit_with_minus_one():
    images = np.random.default_rng(5).integers(-2, 2, (1, 4, 4, 3))
    chain = Chain("INT2", images)
    chain.threshold("sign", np.zeros((3, 1)), "INT2", "BINARY").pad("pad", simd=3)
    report = simulate_rtl(chain.build(), images)
    assert report.ok, str(report)
    signs = np.where(images >= 0, 1, -1)
    padded = np.pad(signs, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
    np.testing.assert_array_equal(2 * chain.values["pad"] - 1, padded)


@needs_verilator
def test_finns_rtl_takes_minus_zero_to_lie_below_a_threshold_of_zero(simulated_traps):
    # IEEE 754 (and the executor) takes both zeros to be equal; the RTL compares signs first.
    node = simulated_traps.report.nodes[0]
    assert not node.ok
    assert (node.difference.transaction, node.difference.expected, node.difference.found) == (
        2,
        1,
        0,
    )


@needs_verilator
def test_finns_parameter_files_of_an_output_with_spare_bits_are_found_to_be_wrong(simulated_traps):
    # FINN numbers the search stages by the output's bits, the RTL by the number of thresholds.
    node = simulated_traps.report.nodes[1]
    assert not node.ok
    assert node.difference is not None


@needs_verilator
def test_finns_matrix_rtl_without_folding_is_found_to_lose_results_that_have_to_wait(
    simulated_traps,
):
    # Its output queue has one place too few where every input transaction gives a result.
    node = simulated_traps.report.nodes[2]
    assert not node.ok
    assert "the RTL of unfolded stopped" in node.failure
    assert "Overflowing output queue" in node.failure
    assert node.failure in str(simulated_traps.report)
    # The pass without pauses was right.
    assert node.mismatches == 0
    assert node.cycles == node.estimated_cycles == 256


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("fpga_part", ["xczu7ev-ffvc1156-2-e", VERSAL], ids=["dsp48e2", "dsp58"])
@pytest.mark.parametrize(
    ("activation", "weight", "pe", "simd"),
    [
        ("INT2", "INT2", 1, 1),
        ("INT2", "INT2", 8, 12),
        ("UINT2", "INT2", 4, 3),
        ("UINT3", "INT4", 2, 6),
        ("UINT4", "INT4", 8, 4),
        ("INT4", "INT3", 1, 12),
        ("INT8", "INT8", 4, 2),
    ],
)
@pytest.mark.parametrize("narrow", [False, True], ids=["whole", "narrow"])
def test_matrix_nodes_of_every_width_and_folding(activation, weight, pe, simd, narrow, fpga_part):
    from qonnx.core.datatype import DataType

    rng = np.random.default_rng(7)
    act, wide = DataType[activation], DataType[weight]
    images = rng.integers(act.min(), act.max() + 1, (2, 3, 3, 24))
    weights = rng.integers(wide.min() + narrow, wide.max() + 1, (24, 8))
    weights[0, 0] = wide.min() + narrow
    chain = Chain(activation, images).multiply("mvu", weights, weight, "INT22", pe=pe, simd=simd)
    report = simulate_rtl(chain.build(fpga_part=fpga_part), images, fpga_part=fpga_part)
    (node,) = report.nodes
    assert node.op_type == "MVAU_rtl"
    assert node.mismatches == 0, str(report)
    assert node.cycles == node.estimated_cycles
    # For DSP58 FINN sizes the output queue for a shorter pipeline than these widths get; with two
    # input transactions to a result it overflows when the results have to wait.
    if fpga_part == VERSAL and simd == 12:
        assert "Overflowing output queue" in node.failure
    else:
        assert report.ok, str(report)


@pytest.fixture
def tamper(monkeypatch):
    """Change files that FINN writes for an operator before they are built."""

    def change(op_type: str, file: str, change_text) -> None:
        honest = adapters.ADAPTERS[op_type]

        def design(op, model, folder, target):
            made = honest.design(op, model, folder, target)
            path = folder / file
            before = path.read_text()
            path.write_text(change_text(before))
            assert path.read_text() != before
            return type(made)(**{**vars(made), "weights": reread(made, path)})

        def reread(made, path):
            if made.weights is None or path.suffix != ".dat":
                return made.weights
            from brevitas_ftprop.export.finn.rtl.streams import memory_words

            return memory_words(path.read_text(), 32 * made.weights.shape[1])

        monkeypatch.setitem(adapters.ADAPTERS, op_type, Adapter(honest.obstacle, design))

    return change


def one_more(text: str) -> str:
    """The first number of a memory file plus one, in its own width."""
    first, rest = text.split("\n", 1)
    return f"{(int(first, 16) + 1) % 16 ** len(first):0{len(first)}x}\n{rest}"


def one_bit(text: str) -> str:
    """The lowest bit of the last number of a memory file flipped."""
    *rest, last = text.split()
    return "\n".join([*rest, f"{int(last, 16) ^ 1:0{len(last)}x}"]) + "\n"


@needs_verilator
def test_a_wrong_threshold_and_a_wrong_weight_in_the_parameter_files_are_found(tamper):
    images = np.tile(np.arange(-8, 8).reshape(1, 4, 4, 1), (1, 1, 1, 4))
    chain = Chain("INT4", images)
    chain.threshold("act", np.tile([-5, 0, 5], (4, 1)), "INT4", "UINT2", pe=2)
    chain.multiply("fc", np.ones((4, 2)), "INT2", "INT6", simd=2)
    tamper("Thresholding_rtl", "dut_threshs_1_1.dat", one_more)
    tamper("MVAU_rtl", "memblock.dat", one_bit)
    report = simulate_rtl(chain.build(), images)
    assert not report.ok
    act, fc = report.nodes
    # Channel 1 no longer counts −5, in an image that two passes stream twice.
    assert act.mismatches == 4
    assert act.difference.expected == act.difference.found + 1
    assert fc.mismatches > 0
    assert "first difference" in str(report)


@needs_verilator
def test_rtl_that_stops_itself_is_shown_with_the_nodes_name(tamper, activation):
    tamper(
        "Thresholding_rtl", "dut.v", lambda t: re.sub(r"parameter  C = 4", "parameter  C = 5", t)
    )
    report = simulate_rtl(activation.build(), activation.images)
    assert not report.ok
    assert "the RTL of act stopped" in report.nodes[0].failure
    assert "not a multiple" in report.nodes[0].failure
    assert report.nodes[0].failure in str(report)


HASTY = """
module dut(
    input ap_clk, input ap_rst_n,
    input in0_V_TVALID, output in0_V_TREADY, input [15:0] in0_V_TDATA,
    output reg out0_V_TVALID, input out0_V_TREADY, output reg [7:0] out0_V_TDATA
);
    assign in0_V_TREADY = 1;
    always @(posedge ap_clk) begin
        out0_V_TVALID <= in0_V_TVALID && ap_rst_n;
        out0_V_TDATA <= in0_V_TDATA[7:0];
    end
endmodule
"""


@needs_verilator
def test_rtl_that_ignores_back_pressure_is_found(tamper, activation):
    tamper("Thresholding_rtl", "dut.v", lambda _: HASTY)
    report = simulate_rtl(activation.build(), activation.images)
    assert report.nodes[0].unstable > 0
    assert "before they were taken" in str(report)


@needs_verilator
def test_nothing_is_changed_or_left_behind_but_what_is_to_be_kept(
    tmp_path, monkeypatch, activation
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path, kept = tmp_path / "partition.onnx", tmp_path / "kept"
    activation.build().save(str(path))
    before = path.read_bytes()
    images = torch.from_numpy(activation.images)
    report = simulate_rtl(path, images, nodes=["act"], keep=kept)
    assert report.ok, str(report)
    assert report.images == len(images)
    assert path.read_bytes() == before
    assert list(scratch.iterdir()) == []
    assert (kept / "nodes" / "act" / "dut.v").is_file()
    with pytest.raises(FileExistsError, match="not an empty folder"):
        simulate_rtl(path, images, keep=kept)


@needs_verilator
def test_a_model_in_memory_is_not_changed_and_a_failure_leaves_nothing(
    tmp_path, monkeypatch, tamper, activation
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = activation.build()
    before = model.model.SerializeToString()
    tamper("Thresholding_rtl", "dut.v", lambda text: text.replace("thresholding_axi", "no_such"))
    with pytest.raises(VerificationError, match=r"Verilator cannot build the RTL of act") as caught:
        simulate_rtl(model, activation.images)
    assert "no_such" in str(caught.value)
    assert model.model.SerializeToString() == before
    assert list(tmp_path.iterdir()) == []


def test_batches_that_do_not_fit_are_refused(activation):
    model, images = activation.build(), activation.images
    with pytest.raises(ValueError, match=r"shape \(2, 4, 8, 8\).* takes \(N, 8, 8, 4\)"):
        simulate_rtl(model, images.transpose(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"0\.5, which is no INT9 value"):
        simulate_rtl(model, np.where(images == images.max(), 0.5, images))
    with pytest.raises(ValueError, match="256, which is no INT9 value"):
        simulate_rtl(model, np.where(images == images.max(), 256, images))
    with pytest.raises(ValueError, match="nan, which is no INT9 value"):
        simulate_rtl(model, images * np.nan)
    with pytest.raises(ValueError, match="the batch is empty"):
        simulate_rtl(model, images[:0])
    with pytest.raises(TypeError, match="array or torch tensor of numbers, got list"):
        simulate_rtl(model, images.tolist())


def test_unknown_nodes_are_refused_with_the_known_ones(activation):
    with pytest.raises(ValueError, match="no node 'relu'; it has act"):
        simulate_rtl(activation.build(), activation.images, nodes=["relu"])
    with pytest.raises(ValueError, match="no nodes to simulate"):
        simulate_rtl(activation.build(), activation.images, nodes=[])


def test_a_part_or_clock_that_is_none_is_refused(activation):
    with pytest.raises(ValueError, match="named as Vivado does"):
        simulate_rtl(activation.build(), np.zeros((1, 2, 2, 4)), fpga_part="ZCU104")
    with pytest.raises(ValueError, match="clock_ns must be a positive number"):
        simulate_rtl(activation.build(), np.zeros((1, 2, 2, 4)), clock_ns=0)


def test_files_that_are_no_partition_are_refused(tmp_path, activation):
    images = activation.images
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx does not exist"):
        simulate_rtl(tmp_path / "missing.onnx", images)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(activation.build().model.SerializeToString()[:-40])
    with pytest.raises(VerificationError, match="damaged"):
        simulate_rtl(damaged, images)
    plain = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"])],
            "plain",
            [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
            [onnx.helper.make_tensor_value_info("y", 1, [1, 4])],
        )
    )
    with pytest.raises(VerificationError, match="holds no FINN hardware node"):
        simulate_rtl(plain, images)
    parent = onnx.ModelProto.FromString(plain.SerializeToString())
    parent.graph.node[0].op_type = "StreamingDataflowPartition"
    with pytest.raises(VerificationError, match="is the parent of a partition"):
        simulate_rtl(parent, images)
    abstract = activation.build().model
    abstract.graph.node[0].domain = "finn.custom_op.fpgadataflow"
    with pytest.raises(VerificationError, match="neither RTL nor HLS yet"):
        simulate_rtl(abstract, images)
    with pytest.raises(TypeError, match="got int"):
        simulate_rtl(3, images)
