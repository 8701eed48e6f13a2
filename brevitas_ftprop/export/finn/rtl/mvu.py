"""FINN's matrix-vector RTL, its weights streamed in as its memory would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper

from .design import Adapter, Design, DeviceTarget, attribute, stream_design, stream_obstacle

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp

# The modes in which FINN writes the weights into a file.
STORED = ("internal_decoupled", "external")
WEIGHT_FILE = "memblock.dat"


def _obstacle(op: HWCustomOp) -> str | None:
    if attribute(op, "mem_mode") not in STORED:
        return f"weights in mem_mode {attribute(op, 'mem_mode')} are not supported"
    if attribute(op, "TH") > 1:
        return "the tiled matrix-vector unit (TH > 1) is not supported"
    if attribute(op, "pumpedMemory"):
        return "weight memories with a doubled clock (pumpedMemory) are not supported"
    if not attribute(op, "noActivation"):
        return "the RTL has no activation of its own (noActivation = 0)"
    return stream_obstacle(op)


def _design(op: HWCustomOp, model: ModelWrapper, folder: Path, target: DeviceTarget) -> Design:
    design = stream_design(op, model, folder, target)
    return replace(
        design,
        weights=_weight_words((folder / WEIGHT_FILE).read_text(), op.get_instream_width(1)),
        doubled_clock=True,
    )


def _weight_words(text: str, bits: int) -> NDArray[np.uint32]:
    """The lines of a memory file, hexadecimal numbers of ``bits`` bits, as words (T, W)."""
    size = 4 * -(-bits // 32)
    words = b"".join(int(line, 16).to_bytes(size, "little") for line in text.split())
    return np.frombuffer(words, dtype="<u4").reshape(-1, size // 4)


MVU = Adapter(obstacle=_obstacle, design=_design)
