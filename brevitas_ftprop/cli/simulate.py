"""``brevitas-ftprop simulate``: the RTL of a partition's nodes, in Verilator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .outcome import Outcome, finish, note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def simulate(
    partition: Annotated[
        Path, typer.Argument(help="Folded partition, 7_folded.onnx of a FINN export.")
    ],
    batch: Annotated[
        Path | None,
        typer.Option(help="Images to stream, a .npy file in the partition's layout (N, H, W, C)."),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Number of random images to stream without --batch.")
    ] = 2,
    node: Annotated[
        list[str] | None, typer.Option(help="Node to simulate; may be repeated; all by default.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="New folder for the RTL, builds and streams.")
    ] = None,
    fpga_part: options.FpgaPart = "xczu7ev-ffvc1156-2-e",
    clock_ns: options.ClockNs = 5.0,
    as_json: options.Json = False,
) -> None:
    """Simulate FINN's RTL node by node and compare every value with FINN's Python models.

    The exit code is 1 if a node differs, or if none of them can be simulated.
    """

    def work() -> Outcome:
        from ..export import simulate_rtl
        from ..export.finn.rtl.partition import load_partition
        from ..runs.images import read_batch

        if batch is None:
            given = _random_values(load_partition(partition), images)
        else:
            given = read_batch(batch)
        note(f"building and simulating the nodes on {len(given)} images")
        report = simulate_rtl(
            partition,
            given,
            nodes=node or "all",
            keep=keep,
            fpga_part=fpga_part,
            clock_ns=clock_ns,
        )
        return Outcome(report.ok, {"partition": str(partition), **report.as_dict()}, str(report))

    finish(work, as_json=as_json)


def _random_values(model: Any, count: int) -> NDArray[np.float32]:
    """Values of the input's datatype, the same in every run."""
    import numpy as np

    from ..runs.images import check_size

    name = model.graph.input[0].name
    runs, *image = model.get_tensor_shape(name)
    datatype = model.get_tensor_datatype(name)
    random = np.random.default_rng(0)
    shape = (-(-count // runs) * runs, *image)
    check_size(shape)
    if not datatype.is_integer():
        return random.standard_normal(shape).astype(np.float32)
    if datatype.name == "BIPOLAR":
        return (2 * random.integers(0, 2, shape) - 1).astype(np.float32)
    low, high = int(datatype.min()), int(datatype.max())
    return random.integers(low, high, shape, endpoint=True).astype(np.float32)
