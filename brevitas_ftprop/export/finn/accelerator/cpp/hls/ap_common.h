// The open arbitrary-precision integers, with what finn-hlslib asks of Vitis HLS' own beside it.

#pragma once

#include <cstdint>

// Is named, and no layer here computes with it.
class half {
    uint16_t bits_;
};

#include_next <ap_common.h>

// Integers say whether they are signed.
template <int Bits, bool Signed>
struct SignedRoot : ssdm_int_sim<Bits, Signed> {
    static constexpr bool sign_flag = Signed;
};
#undef _AP_ROOT_TYPE
#define _AP_ROOT_TYPE SignedRoot
