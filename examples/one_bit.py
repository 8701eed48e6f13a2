"""One-bit networks through `export_finn` and through FINN's own steps: their estimates.

Brevitas' networks of one-bit weights and activations take uint8 pixels and give the class. FINN's
own steps start from the same QONNX file, in a process in which nothing of FINN is changed, and
take the folding that `export_finn` has found. Neither needs Vivado.

    python examples/one_bit.py --out one_bit
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from brevitas_examples.bnn_pynq.models import model_with_cfg
from torch import Tensor, nn

from brevitas_ftprop import export_finn
from brevitas_ftprop.export.tables import markdown_table

PART, CLOCK_NS, FPS = "xczu7ev-ffvc1156-2-e", 5.0, 1000
SHAPES = {"tfc_1w1a": (1, 28, 28), "sfc_1w1a": (1, 28, 28), "lfc_1w1a": (1, 28, 28)}
SHAPES |= {"cnv_1w1a": (3, 32, 32)}
# Of FINN's default ones up to its estimates; its folding step gives way to a folding that is given.
OWN_STEPS = (
    "qonnx_to_finn",
    "tidy_up",
    "streamline",
    "convert_to_hw",
    "minimize_bit_width_initial",
    "create_dataflow_partition",
    "specialize_layers",
    "apply_folding_config",
    "minimize_bit_width",
    "generate_estimate_reports",
)
COLUMNS = (
    "network", "flow", "LUT", "in thresholds", "BRAM18", "DSP", "cycles an image",
    "cycles of latency",
)  # fmt: skip


class Pixels(nn.Module):
    """What the networks see of a uint8 pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return images / 255


def ours(name: str, folder: Path) -> list[object]:
    """A row of the table, of `export_finn`, which compares every step with PyTorch."""
    torch.manual_seed(0)
    model = nn.Sequential(Pixels(), model_with_cfg(name, False)[0]).eval()
    example = torch.randint(256, (1, *SHAPES[name])).float()
    export_finn(
        model,
        example,
        folder,
        fpga_part=PART,
        clock_ns=CLOCK_NS,
        target_fps=FPS,
        images="uint8",
        pixels="x",
        result="class",
        dynamo=False,
        overwrite=True,
        progress=False,
    )
    return [name, "export_finn", *estimates(folder / "report")]


def finns_own(name: str, folder: Path, standalone: bool) -> list[object]:
    """A row of the table, of FINN's own steps on the file of a run of `ours`."""
    import finn.xsi
    from finn.util import settings

    settings.initialize_dummy_settings()
    # Names of Vivado's simulator, which the steps import and do not call.
    for unused in finn.xsi._LAZY_NAMES:
        setattr(finn.xsi, unused, object)
    from finn.builder import build_dataflow_steps
    from finn.builder.build_dataflow_config import DataflowBuildConfig, DataflowOutputType
    from qonnx.core.datatype import DataType
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.insert_topk import InsertTopK

    out = folder.with_name(f"{name}_own_{'standalone' if standalone else 'default'}")
    config = DataflowBuildConfig(
        output_dir=out,
        synth_clk_period_ns=CLOCK_NS,
        fpga_part=PART,
        folding_config_file=folder / "folding.json",
        generate_outputs=[DataflowOutputType.ESTIMATE_REPORTS],
        standalone_thresholds=standalone,
    )
    graph = ModelWrapper(str(folder / "1_qonnx.onnx"))
    graph.set_tensor_datatype(graph.graph.input[0].name, DataType["UINT8"])
    graph = graph.transform(InsertTopK(k=1))
    for step in OWN_STEPS:
        graph = getattr(build_dataflow_steps, f"step_{step}")(graph, cfg=config)
    flow = "FINN's own steps" if standalone else "the same, thresholds inside"
    return [name, flow, *estimates(out / "report")]


def estimates(folder: Path) -> list[int]:
    """FINN's estimates: LUT, those of thresholds, BRAM18, DSP, cycles an image and of latency."""
    layers = json.loads((folder / "estimate_layer_resources.json").read_text())
    network = json.loads((folder / "estimate_network_performance.json").read_text())
    total = layers.pop("total")
    thresholds = sum(used["LUT"] for layer, used in layers.items() if "Thresholding" in layer)
    resources = total["LUT"], thresholds, total["BRAM_18K"], total["DSP"]
    cycles = network["max_cycles"], network["critical_path_cycles"]
    return [int(value) for value in (*resources, *cycles)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=["tfc_1w1a", "cnv_1w1a"], metavar="network")
    parser.add_argument("--out", type=Path, default=Path("one_bit"))
    arguments = parser.parse_args(argv)
    for name in arguments.networks:
        if name not in SHAPES:
            parser.error(f"unknown network {name}; there are {', '.join(SHAPES)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in arguments.networks:
            folder = arguments.out / name
            rows.append(pool.submit(ours, name, folder).result())
            for standalone in (True, False):
                rows.append(pool.submit(finns_own, name, folder.resolve(), standalone).result())
    print("\n".join(markdown_table(COLUMNS, rows)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
