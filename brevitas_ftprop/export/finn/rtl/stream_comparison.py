"""Compare what a node streamed out with what the executor gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .design import Design
from .rtl_report import Difference, NodeReport
from .streams import unpack
from .verilator import Recording


def compare(
    recording: Recording, expected: NDArray, design: Design, *, images: int, report: NodeReport
) -> None:
    """Add one pass to a node's report.

    Args:
        recording: what the RTL answered.
        expected: the executor's values, (T, E).
        design: says how the RTL writes its values.
        images: in the pass.
        report: counts transactions, values, mismatches and unstable cycles.
    """
    count = expected.shape[1]
    found = unpack(recording.words, design.sink.element, count)
    common = min(len(found), len(expected))
    differs = found[:common] != expected[:common]
    # Missing and surplus transactions differ in every value.
    absent = (abs(len(expected) - len(found))) * count
    report.transactions += len(expected)
    report.values += expected.size
    report.mismatches += int(differs.sum()) + absent
    report.unstable += recording.unstable
    if report.difference is not None or not (differs.any() or len(found) < len(expected)):
        return
    each = len(expected) // images
    if differs.any():
        row, element = (int(i) for i in np.argwhere(differs)[0])
        value = float(found[row, element])
    else:
        row, element, value = common, 0, None
    report.difference = Difference(
        image=row // each,
        transaction=row % each,
        element=element,
        expected=float(expected[row, element]),
        found=value,
    )
