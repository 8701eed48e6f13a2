"""From a folder or a partition and a batch to an accelerator that can be run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from numpy.typing import NDArray
from onnx import ModelProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from torch import Tensor

from ...errors import DamagedFileError
from ...quiet import silence
from ..device import check_device
from ..environment import finn_environment
from ..progress_bar import progress_bar
from ..rtl.design import DeviceTarget
from ..rtl.node_values import execute
from ..rtl.partition import check_batch, inputs_of, load_partition
from .bench import Bench
from .compilation import Compiler, default_cache
from .depths import depths_of
from .hls_source import find_hlslib
from .network import IN, OUT
from .stitching import build_network

PARTITION = "7_folded.onnx"
FOLDING = "folding.json"
# What a folding changes of the streams.
FOLDED = {"PE", "SIMD", "parallel_window"}

Given = str | os.PathLike[str] | ModelWrapper | ModelProto


@contextmanager
def prepared(
    partition: Given,
    batch: NDArray | Tensor,
    *,
    cache: str | os.PathLike[str] | None,
    hlslib: str | os.PathLike[str] | None,
    progress: bool,
    fpga_part: str,
    clock_ns: float,
    fifo_depths: Mapping[str, int] | None = None,
) -> Iterator[Bench]:
    """An accelerator, compiled and set up in a temporary folder.

    Args:
        partition: as ``simulate_accelerator`` takes it.
        batch: (N, …) in the layout of the partition's input.
        cache: folder of what is compiled; ``default_cache()`` without one.
        hlslib: folder of finn-hlslib; FINN's own without one, if it is there.
        progress: show what is done on the terminal.
        fpga_part, clock_ns: for the RTL.
        fifo_depths: to be checked before anything is compiled.
    """
    check_device(fpga_part, clock_ns)
    with finn_environment(), tempfile.TemporaryDirectory(prefix="accelerator-") as name:
        folder, library = Path(name), find_hlslib(hlslib)
        with silence():
            model = _loaded(partition)
        images = check_batch(batch, model)
        with silence():
            network = build_network(
                model, folder, DeviceTarget(fpga_part, clock_ns), with_sources=library is not None
            )
        if fifo_depths is not None:
            depths_of(network, fifo_depths)
        compiler = Compiler(default_cache() if cache is None else Path(cache))
        tensors = [*inputs_of(model), *(name for node in model.graph.node for name in node.output)]
        values = execute(model, images, tensors)
        with progress_bar(show=progress) as bar:
            yield Bench(network, values, compiler, folder, bar, library)


def _loaded(partition: Given) -> ModelWrapper:
    """A partition; of a folder, that of its last step with the depths of its folding file."""
    if not isinstance(partition, str | os.PathLike) or not Path(partition).is_dir():
        return load_partition(partition)
    model = load_partition(Path(partition) / PARTITION)
    path = Path(partition) / FOLDING
    if path.is_file():
        _apply_depths(model, path)
    return model


def _apply_depths(model: ModelWrapper, path: Path) -> None:
    """Give nodes the depths of a folding file, whose folding must be theirs.

    Raises:
        DamagedFileError: if it is none.
        ValueError: if it folds a node in another way.
    """
    try:
        folding = json.loads(path.read_text())
    except ValueError as error:
        raise DamagedFileError(f"{path} is no folding file of FINN: {error}") from error
    for node in model.graph.node:
        told = folding.get(node.name, {}) if isinstance(folding, dict) else None
        if not isinstance(told, dict):
            raise DamagedFileError(f"{path} is no folding file of FINN: attributes by node")
        op = getCustomOp(node)
        for attribute in {IN, OUT} & told.keys():
            depths = told[attribute]
            if not isinstance(depths, list) or not depths or {type(d) for d in depths} != {int}:
                raise DamagedFileError(
                    f"{path} gives {node.name} {attribute} {depths!r}, which is no list of depths"
                )
            op.set_nodeattr(attribute, depths)
        for attribute in FOLDED & told.keys() & op.get_nodeattr_types().keys():
            if (own := op.get_nodeattr(attribute)) != told[attribute]:
                raise ValueError(
                    f"{path} gives {node.name} {attribute} {told[attribute]}, but {PARTITION} "
                    f"beside it has {own}: fold the partition alike, and give its file"
                )
