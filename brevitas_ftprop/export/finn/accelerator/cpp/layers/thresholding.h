// Thresholding_hls: how many of its channel's thresholds a value reaches.

#pragma once

#include "../layer.h"

class Thresholding final : public Layer {
  public:
    // Numbers: thresholds of a channel; what is added to their count; the factor of the count.
    // Array: thresholds (channels, thresholds).
    explicit Thresholding(const Parameters& given)
        : Layer(given),
          steps_(given.numbers[0]),
          bias_(given.numbers[1]),
          factor_(given.numbers[2]),
          thresholds_(given.arrays[0]) {}

  private:
    uint64_t reads() const override { return 1; }
    uint64_t writes() const override { return 1; }
    void iterate() override {
        for (size_t i = 0; i < taken[0].size(); ++i) {
            int64_t count = 0;
            for (int64_t step = 0; step < steps_; ++step)
                count += taken[0][i] >= thresholds_[channel_ * steps_ + step];
            given[0][i] = static_cast<double>(factor_ * count + bias_);
            channel_ = (channel_ + 1) % (thresholds_.size() / steps_);
        }
    }
    int64_t steps_, bias_, factor_;
    Values thresholds_;
    size_t channel_ = 0;
};
