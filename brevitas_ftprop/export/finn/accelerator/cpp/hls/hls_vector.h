// Vitis HLS' vector of values that a transaction carries, as far as finn-hlslib uses it.

#pragma once

#include <array>
#include <cstddef>

namespace hls {

template <class Value, size_t Count>
class vector : public std::array<Value, Count> {
  public:
    vector() = default;
    vector(const Value& value) { this->fill(value); }
};

// Value by value.
#define HLS_VECTOR_OPERATOR(sign)                                              \
    template <class Value, size_t Count>                                       \
    vector<Value, Count> operator sign(const vector<Value, Count>& left,       \
                                       const vector<Value, Count>& right) {    \
        vector<Value, Count> made;                                             \
        for (size_t i = 0; i < Count; ++i) made[i] = left[i] sign right[i];    \
        return made;                                                           \
    }
HLS_VECTOR_OPERATOR(+)
HLS_VECTOR_OPERATOR(-)
HLS_VECTOR_OPERATOR(*)
HLS_VECTOR_OPERATOR(/)
#undef HLS_VECTOR_OPERATOR

}  // namespace hls
