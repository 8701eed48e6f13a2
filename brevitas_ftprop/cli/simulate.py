"""``brevitas-ftprop simulate``: a partition's nodes, or the whole accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .outcome import Outcome, finish, note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

FRAMES = 3


def simulate(
    partition: Annotated[
        Path,
        typer.Argument(
            help="Folded partition, 7_folded.onnx of a FINN export; with --whole the folder, too."
        ),
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
    whole: Annotated[
        bool, typer.Option("--whole", help="Simulate all nodes at once, with FIFOs between them.")
    ] = False,
    frames: Annotated[
        int | None, typer.Option(min=1, help=f"Frames with --whole; {FRAMES} by default.")
    ] = None,
    sized: Annotated[
        bool,
        typer.Option(
            "--size-fifos",
            help="Find the depths of all FIFOs, and write them into the folder for FINN's builder.",
        ),
    ] = False,
    pauses: Annotated[
        bool, typer.Option("--pauses", help="Let the input and the output pause at random.")
    ] = False,
    cycles: Annotated[
        int | None, typer.Option(min=1, help="Clock cycles to simulate at most, with --whole.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG of nodes and FIFOs over time, with --whole.")
    ] = None,
    hlslib: Annotated[
        Path | None,
        typer.Option(help="Folder of finn-hlslib, to compare layers in HLS with, with --whole."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=0, help="Runs to spend on shallower FIFOs, with --size-fifos."),
    ] = None,
    fpga_part: options.FpgaPart = "xczu7ev-ffvc1156-2-e",
    clock_ns: options.ClockNs = 5.0,
    as_json: options.Json = False,
) -> None:
    """Simulate FINN's RTL, and compare every value with FINN's Python models.

    Node by node, or with --whole all at once, cycle by cycle, with C++ models for layers that FINN
    writes in HLS. The exit code is 1 if a node or FIFO is at fault, if nothing can be simulated, or
    for a deadlock.
    """

    def work() -> Outcome:
        from ..runs.images import read_batch

        _check_together(
            whole,
            {"--node": node, "--keep": keep},
            {
                "--frames": frames,
                "--size-fifos": sized,
                "--pauses": pauses,
                "--cycles": cycles,
                "--figure": figure,
                "--hlslib": hlslib,
            },
        )
        if trials is not None and not sized:
            raise ValueError("--trials can only be used with --size-fifos")
        if whole:
            _check_written(partition if sized else None, figure)
        count = images if not whole else frames or FRAMES
        given = _random_values(partition, count) if batch is None else read_batch(batch)
        device = {"fpga_part": fpga_part, "clock_ns": clock_ns}
        if whole:
            note(f"building and simulating the accelerator on {len(given)} images")
            run = {
                "frames": frames or FRAMES,
                "pauses": pauses,
                "cycles": cycles,
                "hlslib": hlslib,
                **device,
            }
            if trials is not None:
                run["trials"] = trials
            report = _whole(partition, given, run, sized=sized, figure=figure)
        else:
            from ..export import simulate_rtl

            note(f"building and simulating the nodes on {len(given)} images")
            report = simulate_rtl(partition, given, nodes=node or "all", keep=keep, **device)
        return Outcome(report.ok, {"partition": str(partition), **report.as_dict()}, str(report))

    finish(work, as_json=as_json)


def _whole(
    partition: Path,
    given: NDArray | Tensor,
    run: dict[str, Any],
    *,
    sized: bool,
    figure: Path | None,
) -> Any:
    from ..export import simulate_accelerator, size_fifos

    sizing = size_fifos(partition, given, **run) if sized else None
    report = simulate_accelerator(partition, given, **run) if sizing is None else sizing.report
    if figure is not None:
        report.save_figure(figure)
    if sizing is not None and partition.is_dir():
        sizing.write(partition)
    return report if sizing is None else sizing


def _check_together(whole: bool, apart: dict[str, Any], together: dict[str, Any]) -> None:
    wrong = [name for name, value in (apart if whole else together).items() if value]
    if wrong:
        rule = "cannot be used with" if whole else "can only be used with"
        raise ValueError(f"{', '.join(wrong)} {rule} --whole")


def _check_written(sized: Path | None, figure: Path | None) -> None:
    """Raise for what cannot be written, before minutes are spent on it."""
    from ..export.checks import check_path
    from ..export.finn.accelerator.fifo_sizing import check_build_files

    if sized is not None and sized.is_dir():
        check_build_files(sized)
    if figure is not None:
        check_path(figure, overwrite=True)


def _random_values(partition: Path, count: int) -> NDArray[np.float32]:
    """Values of the input's datatype, the same in every run."""
    import numpy as np

    from ..export.finn.accelerator.preparation import PARTITION
    from ..export.finn.rtl.partition import load_partition
    from ..export.graph_reading import shape_of
    from ..runs.images import check_size

    model = load_partition(partition / PARTITION if partition.is_dir() else partition)
    name = model.graph.input[0].name
    runs, *image = shape_of(model, name)
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
