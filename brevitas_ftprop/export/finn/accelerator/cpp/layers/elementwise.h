// Elementwise…_hls: two operands, value by value; one of them may be a constant.

#pragma once

#include <algorithm>

#include "../layer.h"

class Elementwise final : public Layer {
  public:
    // Numbers: 0 to add, 1 to subtract, 2 to multiply, 3 for the larger; which operand is the
    // constant, or -1. Array: the constant, for each value of an image.
    explicit Elementwise(const Parameters& given)
        : Layer(given), operation_(given.numbers[0]), constant_(given.numbers[1]) {
        if (constant_ >= 0) operand_ = given.arrays[0];
    }

  private:
    uint64_t reads() const override { return (uint64_t{1} << inputs.size()) - 1; }
    uint64_t writes() const override { return 1; }
    void iterate() override {
        size_t stream = 0;
        const double* left = constant_ == 0 ? &operand_[next_] : taken[stream++].data();
        const double* right = constant_ == 1 ? &operand_[next_] : taken[stream++].data();
        for (size_t i = 0; i < given[0].size(); ++i) given[0][i] = result(left[i], right[i]);
        if (constant_ >= 0) next_ = (next_ + given[0].size()) % operand_.size();
    }
    double result(double left, double right) const {
        switch (operation_) {
            case 0: return left + right;
            case 1: return left - right;
            case 2: return left * right;
            default: return std::max(left, right);
        }
    }
    int64_t operation_, constant_;
    Values operand_;
    size_t next_ = 0;
};
