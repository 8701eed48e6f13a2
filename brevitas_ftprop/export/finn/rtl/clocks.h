// The clocks of a node as Verilator translates it.

#pragma once

// The inputs change just after a rising edge; with them given, the outputs become what they are
// before the next one. The doubled clock rises with the clock and halfway between two of its edges.
template <class Dut>
void settle(Dut& dut) {
#ifdef CLOCK2X
    dut.ap_clk2x = 0;
    dut.eval();
    dut.ap_clk2x = 1;
#endif
    dut.ap_clk = 0;
    dut.eval();
#ifdef CLOCK2X
    dut.ap_clk2x = 0;
    dut.eval();
#endif
}

template <class Dut>
void rise(Dut& dut) {
    dut.ap_clk = 1;
#ifdef CLOCK2X
    dut.ap_clk2x = 1;
#endif
    dut.eval();
}

template <class Dut>
void reset(Dut& dut) {
    constexpr int kCycles = 32;
    dut.ap_rst_n = 0;
    for (int i = 0; i < kCycles; ++i) {
        settle(dut);
        rise(dut);
    }
    dut.ap_rst_n = 1;
}
