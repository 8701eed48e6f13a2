"""What FINN's own RTL (finn-plus 1.6.1) does wrong in some foldings is found, at its node."""

from __future__ import annotations

import numpy as np
import pytest

from brevitas_ftprop.export import VerificationError


@pytest.mark.parametrize(("width", "is_right"), [(4, False), (5, True)])
def test_whole_windows_are_wrong_where_lines_are_one_pixel_longer(
    simulate, random_values, graph, width, is_right
):
    # swg_ram_buffer keeps what of a line is no window's; it starts behind the end of one pixel.
    made = graph("INT2", (1, 4, width, 2))
    made.windows("windows", "image", 3, simd=2, parallel_window=1)
    images = random_values("INT2", (2, 4, width, 2), np.random.default_rng(0))
    report = simulate(made.build(), images)
    assert report.ok is is_right
    assert {fault.name for fault in report.faults} == (set() if is_right else {"windows"})


@pytest.mark.parametrize("simd", [3, 6])
def test_a_unit_that_takes_all_its_inputs_at_once_overflows_under_back_pressure(
    simulate, random_values, graph, simd
):
    # mvu_vvu_axi has room for results of which no two follow each other at once.
    rng = np.random.default_rng(0)
    made = graph("INT4", (1, 8, 6)).multiply(
        "unit", "image", random_values("INT4", (6, 4), rng), "INT4", "INT12", simd=simd, form="rtl"
    )
    model, images = made.build(), random_values("INT4", (2, 8, 6), rng)
    assert simulate(model, images).ok
    if simd < 6:
        assert simulate(model, images, frames=6, pauses=True).ok
        return
    with pytest.raises(VerificationError, match=r" unit\.dut\..*Overflowing output queue"):
        simulate(model, images, frames=6, pauses=True)
