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

}  // namespace hls
