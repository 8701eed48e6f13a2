// VVAU: each channel's product with a window of its own, PE channels and SIMD pixels a cycle.

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
          simd_(given.inputs[0].count / given.outputs[0].count),
          weights_(given.arrays[0]) {}

  private:
    uint64_t reads() const override { return 1; }
    uint64_t writes() const override { return step_ + simd_ == window_; }
    void iterate() override {
        if (step_ == 0) given[0].assign(given[0].size(), 0);
        for (size_t i = 0; i < taken[0].size(); ++i) {
            const size_t pe = i % given[0].size(), pixel = step_ + i / given[0].size();
            const double value = taken[0][i], weight = weights_[(channel_ + pe) * window_ + pixel];
            given[0][pe] += counts_equal_ ? value == weight : value * weight;
        }
        step_ += simd_;
        if (step_ < window_) return;
        step_ = 0;
        channel_ += given[0].size();
        if (channel_ * window_ == weights_.size()) channel_ = 0;
    }
    int64_t counts_equal_;
    size_t window_, simd_;
    Values weights_;
    size_t step_ = 0, channel_ = 0;
};
