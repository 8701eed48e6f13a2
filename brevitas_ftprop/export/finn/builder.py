"""FINN's own builder: its configuration, its estimates, and the files to go on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from finn.builder.build_dataflow_config import DataflowBuildConfig, DataflowOutputType
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from torch.nn import Module

from ..graph_reading import attributes_of
from .finn_report import FinnReport
from .hardware_layers import layers_behind
from .tracking import tracked_quantizers

RESOURCES = ("LUT", "BRAM_18K", "URAM", "DSP")
FOLDING = ("PE", "SIMD")
# From the folded partition to a driver; the first three need no Vivado. FINN's own minimization of
# widths is behind us: without our correction it stops at some thresholds.
BUILD_STEPS = (
    "step_apply_folding_config",
    "step_transpose_decomposition",
    "step_generate_estimate_reports",
    "step_assign_ddr_weight_offsets",
    "step_generate_hardware",
    "step_create_stitched_ip",
    "step_measure_rtlsim_performance",
    "step_out_of_context_synthesis",
    "step_prepare_synthesis",
    "step_synthesize_bitfile",
    "step_make_driver",
    "step_deployment_package",
)


def build_config(folder: Path, report: FinnReport) -> DataflowBuildConfig:
    """FINN's configuration for what a report says was asked for, with estimates in ``folder``."""
    return DataflowBuildConfig(
        output_dir=folder,
        synth_clk_period_ns=report.clock_ns,
        fpga_part=report.fpga_part,
        target_fps=report.target_fps,
        generate_outputs=[DataflowOutputType.ESTIMATE_REPORTS],
        standalone_thresholds=True,
        save_intermediate_models=True,
    )


def describe_layers(
    report: FinnReport, partition: ModelWrapper, model: Module, folder: Path
) -> None:
    """Read FINN's estimates into the report, layer by layer in graph order."""
    cycles, resources, performance = (
        json.loads((folder / "report" / f"estimate_{name}.json").read_text())
        for name in ("layer_cycles", "layer_resources", "network_performance")
    )
    quantizers = {quantizer.node: quantizer.name for quantizer in tracked_quantizers(partition)}
    layers = layers_behind(model, partition)
    for node in partition.graph.node:
        used = resources.get(node.name, {})
        report.layers[node.name] = {
            "model layer": layers.get(node.name),
            "quantizer": quantizers.get(node.name),
            **_folding(node),
            "cycles": cycles.get(node.name, 0),
            **{kind: used.get(kind, 0) for kind in RESOURCES},
        }
    report.resources = {kind: resources["total"].get(kind, 0) for kind in RESOURCES}
    report.performance = performance


def _folding(node: NodeProto) -> dict[str, Any]:
    layer = attributes_of(node)
    known = layer.get_nodeattr_types()
    return {name: layer.get_nodeattr(name) if name in known else None for name in FOLDING}


def write_build_files(folder: Path, final: Path, config: DataflowBuildConfig) -> None:
    """``folding.json`` and ``build.yaml``: ``finn build build.yaml 7_folded.onnx`` goes on.

    Args:
        folder: where they are written.
        final: what the folder will be called.
        config: that of ``build_config``.
    """
    folding = folder / "report" / "auto_folding_config.json"
    (folder / "folding.json").write_text(folding.read_text())
    going_on = {
        "output_dir": "build",
        "fpga_part": config.fpga_part,
        "synth_clk_period_ns": config.synth_clk_period_ns,
        "folding_config_file": "folding.json",
        "standalone_thresholds": True,
        "generate_outputs": ["estimate_reports", "stitched_ip", "rtlsim_performance"],
        "steps": list(BUILD_STEPS),
    }
    (folder / "build.yaml").write_text(yaml.safe_dump(going_on, sort_keys=False))
    models = Path("intermediate_models")
    parent = ModelWrapper(str(folder / models / "dataflow_parent.onnx"))
    (node,) = parent.get_nodes_by_op_type("StreamingDataflowPartition")
    partition = final / models / "supported_op_partitions" / "partition_0.onnx"
    attributes_of(node).set_nodeattr("model", str(partition))
    parent.save(str(folder / models / "dataflow_parent.onnx"))
