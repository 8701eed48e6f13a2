"""The FPGA that a partition is meant for."""

from __future__ import annotations

import math
import re
from numbers import Real

# FINN takes any text, and knows the device family by its lower-case beginning.
PART = re.compile(r"x[acq][0-9a-z]+-[\w-]+")


def check_device(fpga_part: str, clock_ns: float) -> None:
    """Raise unless FINN can estimate and write RTL for a part and a clock period.

    Raises:
        ValueError: for a name that is no part, such as a board's, or a period that is no positive
            number.

    >>> check_device("Pynq-Z1", 5.0)
    Traceback (most recent call last):
    ValueError: fpga_part must be named as Vivado does, such as xczu7ev-ffvc1156-2-e, not 'Pynq-Z1'
    """
    if not (isinstance(fpga_part, str) and PART.fullmatch(fpga_part)):
        raise ValueError(
            "fpga_part must be named as Vivado does, such as xczu7ev-ffvc1156-2-e, "
            f"not {fpga_part!r}"
        )
    if not (isinstance(clock_ns, Real) and 0 < clock_ns < math.inf):
        raise ValueError(f"clock_ns must be a positive number, not {clock_ns!r}")
