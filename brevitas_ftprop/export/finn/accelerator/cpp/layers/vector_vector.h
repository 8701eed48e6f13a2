// VVAU: each channel's product with a window of its own, PE channels a cycle.

#pragma once

#include "../layer.h"

class VectorVector final : public Layer {
  public:
    // Numbers: 1 to count equal values instead of adding products; size of the window.
    // Array: weights (channels, window).
    explicit VectorVector(const Parameters& given)
        : Layer(given),
          counts_equal_(given.numbers[0]),
          window_(given.numbers[1]),
          weights_(given.arrays[0]) {}

  private:
    uint64_t reads() const override { return 1; }
    uint64_t writes() const override { return step_ + 1 == window_; }
    void iterate() override {
        for (size_t pe = 0; pe < given[0].size(); ++pe) {
            const double value = taken[0][pe], weight = weights_[(channel_ + pe) * window_ + step_];
            const double product = counts_equal_ ? value == weight : value * weight;
            given[0][pe] = step_ == 0 ? product : given[0][pe] + product;
        }
        if (++step_ < window_) return;
        step_ = 0;
        channel_ += given[0].size();
        if (channel_ * window_ == weights_.size()) channel_ = 0;
    }
    int64_t counts_equal_;
    size_t window_;
    Values weights_;
    size_t step_ = 0, channel_ = 0;
};
