// LabelSelect_hls: indices of the K largest values, the first of equal ones first.

#pragma once

#include <algorithm>
#include <utility>

#include "../layer.h"

class LabelSelect final : public Layer {
  public:
    // Numbers: transactions of an image; K.
    explicit LabelSelect(const Parameters& given)
        : Layer(given), image_(given.numbers[0]), wanted_(given.numbers[1]) {}

  private:
    // The last iteration that reads gives the first index, and each one behind it another.
    uint64_t reads() const override { return step_ < image_; }
    uint64_t writes() const override { return step_ >= image_ - 1; }
    void iterate() override {
        if (step_ < image_) {
            for (size_t i = 0; i < taken[0].size(); ++i)
                found_.emplace_back(taken[0][i], static_cast<double>(found_.size()));
        }
        if (step_ == image_ - 1)
            std::stable_sort(found_.begin(), found_.end(),
                             [](const auto& a, const auto& b) { return a.first > b.first; });
        if (step_ >= image_ - 1) given[0][0] = found_[step_ - (image_ - 1)].second;
        if (++step_ == image_ + wanted_ - 1) {
            step_ = 0;
            found_.clear();
        }
    }
    int64_t image_, wanted_, step_ = 0;
    std::vector<std::pair<double, double>> found_;
};
