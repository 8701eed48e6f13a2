"""The C++ FIFO does in every cycle what FINN's own model of a FIFO does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from brevitas_ftprop.export.finn.accelerator.compilation import CPP
from brevitas_ftprop.export.finn.rtl.toolchain import (
    compile_cpp,
    compile_unit,
    runtime_parts,
    verilate,
)
from brevitas_ftprop.export.finn.rtl.translation import translate

WRAPPER = """
module dut(
    input clk, input rst, input [31:0] idat, input ivld, output irdy,
    output [31:0] odat, output ovld, input ordy, output [31:0] count, output [31:0] maxcount
);
    fifo_gauge #(.WIDTH(32)) gauge(.*);
endmodule
"""
# Bursts of both sides; what is wrong is the exit code.
DRIVER = """
#include <random>
#include "fifo.h"
#include "Vdut.h"
int main() {
    VerilatedContext context;
    Vdut dut{&context};
    const auto tick = [&] { dut.clk = 1; dut.eval(); dut.clk = 0; dut.eval(); };
    dut.clk = 0; dut.rst = 1; dut.ivld = 0; dut.ordy = 0; dut.eval(); tick(); dut.rst = 0;
    Fifo fifo(1, 0);
    std::mt19937 random(7);
    bool gives = false, takes = false;
    for (uint32_t cycle = 0; cycle < 20000; ++cycle) {
        if (random() % 40 == 0) gives = !gives;
        if (random() % 40 == 0) takes = !takes;
        const bool put = gives && random() % 4, take = takes && random() % 3;
        dut.idat = cycle; dut.ivld = put; dut.ordy = take; dut.eval();
        if (!dut.irdy || fifo.full()) return 1;
        if (dut.ovld != !fifo.empty()) return 2;
        if (dut.ovld && dut.odat != *fifo.front()) return 3;
        if (dut.count != fifo.fill() || dut.maxcount != fifo.largest()) return 4;
        tick();
        if (take && !fifo.empty()) fifo.pop();
        if (put) fifo.push(&cycle);
    }
    dut.final();
    return fifo.largest() > 64 ? 0 : 5;
}
"""


@pytest.mark.slow
def test_an_unbounded_fifo_is_finns_gauge_in_every_cycle(tmp_path):
    import finn

    if " 5.006 " in verilate(["--version"], tmp_path, "Verilator has no version"):
        pytest.skip("Verilator 5.006 cannot read 'ODat <= Q.pop_front()' of FINN's gauge")
    gauge = Path(finn.__file__).parent / "finn-rtllib" / "fifo" / "hdl" / "fifo_gauge.sv"
    sources = [(gauge.name, gauge.read_text()), ("dut.sv", WRAPPER)]
    generated, include = translate(sources, tmp_path, name="the gauge")
    (tmp_path / "driver.cpp").write_text(DRIVER)
    files = [include / f"{part}.cpp" for part in runtime_parts(generated)]
    files += [*sorted(generated.glob("*.cpp")), tmp_path / "driver.cpp"]
    flags = [f"-I{generated}", f"-I{CPP}"]
    unit = compile_unit(tmp_path / "all", files, flags, include, "the gauge")
    program = tmp_path / "program"
    compile_cpp([str(unit), "-pthread", "-o", str(program)], include, tmp_path, "the gauge")
    assert subprocess.run([str(program)], check=False).returncode == 0
