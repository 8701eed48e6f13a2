"""FINN's own C++ of a layer in HLS, and the finn-hlslib that it calls."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper

from ...errors import VerificationError
from ..rtl.adapters import WEIGHT_FILE
from ..rtl.design import TOP, DeviceTarget
from ..rtl.streams import memory_words

if TYPE_CHECKING:
    from finn.custom_op.fpgadataflow.hlsbackend import HLSBackend
    from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp

INSTALL = "pip install 'brevitas-ftprop[hls4ml]'"
DOOR = "bnn-library.h"
# A stream of the function, as FINN names it.
STREAM = re.compile(r"&\s*(in|out)(\d+)_V")


@dataclass(frozen=True)
class Hlslib:
    """What FINN's C++ is compiled with.

    Attributes:
        folder: of finn-hlslib.
        types: of the open arbitrary-precision headers, which hls4ml's wheel has.
    """

    folder: Path
    types: Path

    def texts(self) -> list[str]:
        """All headers, which a compiled function depends on."""
        files = [file for folder in (self.folder, self.types) for file in folder.glob("*.h*")]
        return [file.read_text(errors="replace") for file in sorted(files)]


@dataclass(frozen=True)
class HlsSource:
    """The function that FINN writes for a layer in HLS, and that Vitis would compile.

    Attributes:
        folder: holds it and the headers of its parameters.
        streams: its streams in order: ``"in0"``, ``"out0"``, …
        constants: words of one round of a stream of weights or thresholds, uint32 (T, W), or None.
    """

    folder: Path
    streams: tuple[str, ...]
    constants: NDArray[np.uint32] | None = None

    def texts(self) -> list[str]:
        """What it is made of."""
        files = [file for end in ("cpp", "h", "hpp") for file in self.folder.glob(f"*.{end}")]
        return [file.read_text() for file in sorted(files)]

    def main(self) -> str:
        """A program that calls it."""
        return (
            f'#include "top_{TOP}.cpp"\n#include "layer_top.h"\n'
            f"int main(int, char** words) {{ return run_layer({TOP}, words + 1); }}\n"
        )


def find_hlslib(given: str | os.PathLike[str] | None) -> Hlslib | None:
    """The finn-hlslib that is given, else that in FINN's folder of dependencies, else None.

    Raises:
        FileNotFoundError: if what is given is none.
        ImportError: if one is given, and the headers are missing (says what to install).
    """
    from finn.util.settings import get_settings

    folder = Path(get_settings().finn_deps) / "finn-hlslib" if given is None else Path(given)
    spec = importlib.util.find_spec("hls4ml")
    if given is not None:
        if not (folder / DOOR).is_file():
            raise FileNotFoundError(f"{folder} has no {DOOR}: give the folder of finn-hlslib")
        if spec is None:
            raise ImportError(f"finn-hlslib needs the headers that hls4ml has: {INSTALL}")
    if spec is None or spec.origin is None or not (folder / DOOR).is_file():
        return None
    types = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
    return Hlslib(folder.resolve(), types)


def write_source(
    op: HWCustomOp, model: ModelWrapper, folder: Path, target: DeviceTarget
) -> HlsSource:
    """Let FINN write the function of a layer in HLS.

    Args:
        op: of the partition.
        model: the partition, which has its constants.
        folder: for the files; is made.
        target: of the code.

    Raises:
        VerificationError: if FINN refuses (names the node).
    """
    from finn.custom_op.fpgadataflow.hlsbackend import HLSBackend

    node, name = op.onnx_node, op.onnx_node.name
    folder.mkdir()
    node.name = TOP
    try:
        op.set_nodeattr("code_gen_dir_ipgen", str(folder))
        # Not the layer's own method, which writes memories in RTL too.
        backend = cast("HLSBackend", op)
        HLSBackend.code_generation_ipgen(backend, model, target.fpga_part, target.clock_ns)
    # FINN has its own class of errors, and assertions beside it.
    except Exception as error:
        raise VerificationError(f"FINN cannot write the C++ of {name}: {error}") from error
    finally:
        node.name = name
    text = (folder / f"top_{TOP}.cpp").read_text()
    head = text[text.index(f"void {TOP}") :].split(")", 1)[0]
    streams = tuple(f"{side}{index}" for side, index in STREAM.findall(head))
    memory = folder / WEIGHT_FILE
    if not memory.is_file():
        return HlsSource(folder, streams)
    return HlsSource(folder, streams, memory_words(memory.read_text(), op.get_instream_width(1)))
