// DuplicateStreams_hls: every transaction to all outputs, in the same cycle.

#pragma once

#include "../layer.h"

class DuplicateStreams final : public Layer {
  public:
    explicit DuplicateStreams(const Parameters& given) : Layer(given) {}

  private:
    uint64_t reads() const override { return 1; }
    uint64_t writes() const override { return (uint64_t{1} << outputs.size()) - 1; }
    void iterate() override {
        for (Values& values : given) values = taken[0];
    }
};
