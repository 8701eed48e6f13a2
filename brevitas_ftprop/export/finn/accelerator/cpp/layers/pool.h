// Pool_hls: largest value or sum of each channel over the transactions of a window.

#pragma once

#include <algorithm>

#include "../layer.h"

class Pool final : public Layer {
  public:
    // Numbers: size of the window; 1 for the largest value, 0 for the sum; bits to shift it by.
    explicit Pool(const Parameters& given)
        : Layer(given),
          window_(given.numbers[0]),
          largest_(given.numbers[1]),
          shift_(given.numbers[2]) {}

  private:
    uint64_t reads() const override { return 1; }
    uint64_t writes() const override { return step_ == window_ - 1; }
    void iterate() override {
        for (size_t i = 0; i < given[0].size(); ++i) {
            const double value = taken[0][i];
            double& kept = given[0][i];
            kept = step_ == 0 ? value : largest_ ? std::max(kept, value) : kept + value;
        }
        if (++step_ < window_) return;
        step_ = 0;
        if (shift_)
            for (double& sum : given[0])
                sum = static_cast<double>(static_cast<int64_t>(sum) >> shift_);
    }
    int64_t window_, largest_, shift_, step_ = 0;
};
