// GlobalAccPool_hls: sum of each channel over all pixels, given behind the last one.

#pragma once

#include "../layer.h"

class GlobalAccPool final : public Layer {
  public:
    // Numbers: transactions of an image, and of a pixel.
    explicit GlobalAccPool(const Parameters& given)
        : Layer(given), image_(given.numbers[0]), pixel_(given.numbers[1]),
          sums_(pixel_, Values(given.outputs[0].count)) {}

  private:
    uint64_t reads() const override { return step_ < image_; }
    uint64_t writes() const override { return step_ >= image_; }
    void iterate() override {
        Values& sums = sums_[step_ % pixel_];
        if (step_ < image_) {
            for (size_t i = 0; i < sums.size(); ++i) sums[i] += taken[0][i];
        } else {
            given[0] = sums;
            sums.assign(sums.size(), 0);
        }
        step_ = (step_ + 1) % (image_ + pixel_);
    }
    int64_t image_, pixel_, step_ = 0;
    std::vector<Values> sums_;
};
