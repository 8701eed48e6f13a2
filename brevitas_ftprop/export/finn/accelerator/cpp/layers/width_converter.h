// StreamingDataWidthConverter: the same values in transactions of another size.

#pragma once

#include "../layer.h"

class WidthConverter final : public Layer {
  public:
    explicit WidthConverter(const Parameters& given)
        : Layer(given), in_(given.inputs[0].count), out_(given.outputs[0].count) {}

  private:
    uint64_t reads() const override { return kept_.size() < out_; }
    uint64_t writes() const override { return kept_.size() + (reads() ? in_ : 0) >= out_; }
    void iterate() override {
        if (reads()) kept_.insert(kept_.end(), taken[0].begin(), taken[0].end());
        if (kept_.size() < out_) return;
        given[0].assign(kept_.begin(), kept_.begin() + out_);
        kept_.erase(kept_.begin(), kept_.begin() + out_);
    }
    size_t in_, out_;
    Values kept_;
};
